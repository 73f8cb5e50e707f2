// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The C ABI from Rust, through what bindgen makes of viommu.h: a unit whose translation is off passes addresses through.
#![allow(non_camel_case_types, non_upper_case_globals, dead_code)]
use std::{ffi::CStr, mem, ptr};

mod viommu {
    include!(concat!(env!("BINDINGS_FOLDER"), "/bindings.rs"));
}
use viommu::*;

fn main() {
    let options = viommu_vtd_options { size: mem::size_of::<viommu_vtd_options>() as _, ..Default::default() };
    let host = viommu_host { size: mem::size_of::<viommu_host>() as _, ..Default::default() };
    let request = viommu_request { iova: 0x7123, source: 0x0010, access: VIOMMU_READ as u8, ..Default::default() };
    let mut found = viommu_translation::default();
    let mut engine: *mut viommu_engine = ptr::null_mut();
    let mut text = [0; 256];
    unsafe {
        let created = viommu_create_vtd(&options, &host, text.as_mut_ptr(), text.len() as _, &mut engine);
        assert_eq!(created, VIOMMU_OK, "{}", CStr::from_ptr(text.as_ptr()).to_string_lossy());
        assert_eq!(viommu_translate_once(engine, &request, &mut found), VIOMMU_OK);
        assert_eq!((found.kind as u32, found.gpa), (VIOMMU_IDENTITY as u32, 0x7123));
        println!("0x{:x} -> 0x{:x}", request.iova, found.gpa);
        assert_eq!(viommu_destroy(engine), VIOMMU_OK);
    }
}
