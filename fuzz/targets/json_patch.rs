#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rutter_fuzz::patch::json_operations(data));
