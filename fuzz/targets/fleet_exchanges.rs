#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kakehi_tests::fuzz::fleet_exchanges(data));
