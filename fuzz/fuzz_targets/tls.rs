#![no_main]

use mms_fuzz::properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::tls::try_out(data));
