//! Data files of rbldnsd(8).
#![no_main]

mod list_format;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| list_format::check(mailgate_lists::Format::Rbldnsd, text));
