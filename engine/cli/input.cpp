// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/input.hpp"

#include <zstd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ios>
#include <memory>
#include <system_error>

namespace viommu::cli {
namespace {

constexpr std::string_view zstd_magic{"\x28\xb5\x2f\xfd", 4};

Text decompress(const std::string& packed) {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context{ZSTD_createDCtx(), &ZSTD_freeDCtx};
  if (!context) return {{}, "no memory for decompression"};
  Text text;
  std::string piece(ZSTD_DStreamOutSize(), '\0');
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  std::size_t left = 1;  // bytes the frame still wants; 0 at the end of a frame
  while (in.pos < in.size || left != 0) {
    ZSTD_outBuffer out{piece.data(), piece.size(), 0};
    const std::size_t before = in.pos;
    left = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(left) != 0) return {{}, std::string{"damaged zstd data: "} + ZSTD_getErrorName(left)};
    text.bytes.append(piece.data(), out.pos);
    if (in.pos == in.size && in.pos == before && out.pos == 0 && left != 0)
      return {{}, "the zstd data ends too early: the file is cut off"};
  }
  return text;
}

std::string all_of(std::istream& in) {
  std::string bytes;
  std::string piece(std::size_t{1} << 20, '\0');
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() != 0)
    bytes.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  return bytes;
}

}  // namespace

Text read_text(const std::string& path, std::istream& standard_input) {
  Text text;
  if (path == "-") {
    text.bytes = all_of(standard_input);
  } else {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) return {{}, "this is a folder, not a trace"};
    errno = 0;
    std::ifstream file{path, std::ios::binary};
    if (!file) return {{}, errno == 0 ? "cannot be opened" : std::generic_category().message(errno)};
    text.bytes = all_of(file);
    if (file.bad()) return {{}, "cannot be read"};
  }
  if (text.bytes.starts_with(zstd_magic)) return decompress(text.bytes);
  return text;
}

bool Lines::next(std::string_view& line) noexcept {
  if (rest_.empty()) return false;
  const std::size_t end = rest_.find('\n');
  ended_ = end != std::string_view::npos;
  line = rest_.substr(0, end);
  rest_.remove_prefix(ended_ ? end + 1 : rest_.size());
  ++number_;
  return true;
}

}  // namespace viommu::cli
