// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Version Register", "Capability Register", "Extended Capability Register". All read-only.
#pragma once

#include <cstdint>

#include "engine/base/bits.hpp"

namespace viommu::vtd {

/// VER_REG.
struct VersionRegister {
  std::uint32_t raw = 0;
};
namespace version_register {
// clang-format off
inline constexpr Field<VersionRegister, unsigned> minor_version {"MIN",  { 3,  0}};
inline constexpr Field<VersionRegister, unsigned> major_version {"MAX",  { 7,  4}};
inline constexpr Field<VersionRegister, unsigned> reserved      {"Rsvd", {31,  8}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(minor_version, major_version, reserved);
}  // namespace version_register

/// CAP_REG.
struct CapabilityRegister {
  std::uint64_t raw = 0;
};
namespace cap {
// clang-format off
inline constexpr Field<CapabilityRegister, unsigned> nd          {"ND",      { 2,  0}};
inline constexpr Field<CapabilityRegister, bool>     reserved_3  {"Rsvd",    { 3,  3}, Rule::reserved};
inline constexpr Field<CapabilityRegister, bool>     rwbf        {"RWBF",    { 4,  4}};
inline constexpr Field<CapabilityRegister, bool>     plmr        {"PLMR",    { 5,  5}};
inline constexpr Field<CapabilityRegister, bool>     phmr        {"PHMR",    { 6,  6}};
inline constexpr Field<CapabilityRegister, bool>     cm          {"CM",      { 7,  7}};
inline constexpr Field<CapabilityRegister, unsigned> sagaw       {"SAGAW",   {12,  8}};
inline constexpr Field<CapabilityRegister, unsigned> reserved_13 {"Rsvd",    {15, 13}, Rule::reserved};
inline constexpr Field<CapabilityRegister, unsigned> mgaw        {"MGAW",    {21, 16}};
inline constexpr Field<CapabilityRegister, bool>     zlr         {"ZLR",     {22, 22}};
inline constexpr Field<CapabilityRegister, bool>     reserved_23 {"Rsvd",    {23, 23}, Rule::reserved};
inline constexpr Field<CapabilityRegister, unsigned> fro         {"FRO",     {33, 24}};
inline constexpr Field<CapabilityRegister, unsigned> sslps       {"SSLPS",   {37, 34}};
inline constexpr Field<CapabilityRegister, bool>     reserved_38 {"Rsvd",    {38, 38}, Rule::reserved};
inline constexpr Field<CapabilityRegister, bool>     psi         {"PSI",     {39, 39}};
inline constexpr Field<CapabilityRegister, unsigned> nfr         {"NFR",     {47, 40}};
inline constexpr Field<CapabilityRegister, unsigned> mamv        {"MAMV",    {53, 48}};
inline constexpr Field<CapabilityRegister, bool>     dwd         {"DWD",     {54, 54}};
inline constexpr Field<CapabilityRegister, bool>     drd         {"DRD",     {55, 55}};
inline constexpr Field<CapabilityRegister, bool>     fs1gp       {"FS1GP",   {56, 56}};
inline constexpr Field<CapabilityRegister, unsigned> reserved_57 {"Rsvd",    {58, 57}, Rule::reserved};
inline constexpr Field<CapabilityRegister, bool>     pi          {"PI",      {59, 59}};
inline constexpr Field<CapabilityRegister, bool>     fs5lp       {"FS5LP",   {60, 60}};
inline constexpr Field<CapabilityRegister, bool>     ecmds       {"ECMDS",   {61, 61}};
inline constexpr Field<CapabilityRegister, bool>     esirtps     {"ESIRTPS", {62, 62}};
inline constexpr Field<CapabilityRegister, bool>     esrtps      {"ESRTPS",  {63, 63}};
// clang-format on
inline constexpr auto rows =
    layout(nd, reserved_3, rwbf, plmr, phmr, cm, sagaw, reserved_13, mgaw, zlr, reserved_23, fro, sslps, reserved_38,
           psi, nfr, mamv, dwd, drd, fs1gp, reserved_57, pi, fs5lp, ecmds, esirtps, esrtps);
}  // namespace cap

/// ECAP_REG.
struct ExtendedCapabilityRegister {
  std::uint64_t raw = 0;
};
namespace ecap {
using Ecap = ExtendedCapabilityRegister;
// clang-format off
inline constexpr Field<Ecap, bool>     coherent    {"C",       { 0,  0}};
inline constexpr Field<Ecap, bool>     qi          {"QI",      { 1,  1}};
inline constexpr Field<Ecap, bool>     dt          {"DT",      { 2,  2}};
inline constexpr Field<Ecap, bool>     ir          {"IR",      { 3,  3}};
inline constexpr Field<Ecap, bool>     eim         {"EIM",     { 4,  4}};
inline constexpr Field<Ecap, bool>     reserved_5  {"Rsvd",    { 5,  5}, Rule::reserved};
inline constexpr Field<Ecap, bool>     pt          {"PT",      { 6,  6}};
inline constexpr Field<Ecap, bool>     sc          {"SC",      { 7,  7}};
inline constexpr Field<Ecap, unsigned> iro         {"IRO",     {17,  8}};
inline constexpr Field<Ecap, unsigned> reserved_18 {"Rsvd",    {19, 18}, Rule::reserved};
inline constexpr Field<Ecap, unsigned> mhmv        {"MHMV",    {23, 20}};
inline constexpr Field<Ecap, bool>     reserved_24 {"Rsvd",    {24, 24}, Rule::reserved};
inline constexpr Field<Ecap, bool>     mts         {"MTS",     {25, 25}};
inline constexpr Field<Ecap, bool>     nest        {"NEST",    {26, 26}};
inline constexpr Field<Ecap, unsigned> reserved_27 {"Rsvd",    {28, 27}, Rule::reserved};
inline constexpr Field<Ecap, bool>     prs         {"PRS",     {29, 29}};
inline constexpr Field<Ecap, bool>     ers         {"ERS",     {30, 30}};
inline constexpr Field<Ecap, bool>     srs         {"SRS",     {31, 31}};
inline constexpr Field<Ecap, bool>     reserved_32 {"Rsvd",    {32, 32}, Rule::reserved};
inline constexpr Field<Ecap, bool>     nwfs        {"NWFS",    {33, 33}};
inline constexpr Field<Ecap, bool>     eafs        {"EAFS",    {34, 34}};
inline constexpr Field<Ecap, unsigned> pss         {"PSS",     {39, 35}};
inline constexpr Field<Ecap, bool>     pasid       {"PASID",   {40, 40}};
inline constexpr Field<Ecap, bool>     dit         {"DIT",     {41, 41}};
inline constexpr Field<Ecap, bool>     pds         {"PDS",     {42, 42}};
inline constexpr Field<Ecap, bool>     smts        {"SMTS",    {43, 43}};
inline constexpr Field<Ecap, bool>     vcs         {"VCS",     {44, 44}};
inline constexpr Field<Ecap, bool>     ssads       {"SSADS",   {45, 45}};
inline constexpr Field<Ecap, bool>     ssts        {"SSTS",    {46, 46}};
inline constexpr Field<Ecap, bool>     fsts        {"FSTS",    {47, 47}};
inline constexpr Field<Ecap, bool>     smpwcs      {"SMPWCS",  {48, 48}};
inline constexpr Field<Ecap, bool>     rps         {"RPS",     {49, 49}};
inline constexpr Field<Ecap, bool>     tdxcs       {"TDXCS",   {50, 50}};
inline constexpr Field<Ecap, bool>     pms         {"PMS",     {51, 51}};
inline constexpr Field<Ecap, bool>     adms        {"ADMS",    {52, 52}};
inline constexpr Field<Ecap, bool>     rprivs      {"RPRIVS",  {53, 53}};
inline constexpr Field<Ecap, bool>     reserved_54 {"Rsvd",    {54, 54}, Rule::reserved};
inline constexpr Field<Ecap, bool>     hpts        {"HPTS",    {55, 55}};
inline constexpr Field<Ecap, bool>     ptrs        {"PTRS",    {56, 56}};
inline constexpr Field<Ecap, bool>     ssirws      {"SSIRWS",  {57, 57}};
inline constexpr Field<Ecap, bool>     sms         {"SMS",     {58, 58}};
inline constexpr Field<Ecap, bool>     hpt1gps     {"HPT1GPS", {59, 59}};
inline constexpr Field<Ecap, bool>     rdts        {"RDTS",    {60, 60}};
inline constexpr Field<Ecap, bool>     eimer       {"EIMER",   {61, 61}};
inline constexpr Field<Ecap, bool>     irreq       {"IRREQ",   {62, 62}};
inline constexpr Field<Ecap, bool>     reserved_63 {"Rsvd",    {63, 63}, Rule::reserved};
// clang-format on
inline constexpr auto rows =
    layout(coherent, qi, dt, ir, eim, reserved_5, pt, sc, iro, reserved_18, mhmv, reserved_24, mts, nest, reserved_27,
           prs, ers, srs, reserved_32, nwfs, eafs, pss, pasid, dit, pds, smts, vcs, ssads, ssts, fsts, smpwcs, rps,
           tdxcs, pms, adms, rprivs, reserved_54, hpts, ptrs, ssirws, sms, hpt1gps, rdts, eimer, irreq, reserved_63);
}  // namespace ecap

}  // namespace viommu::vtd
