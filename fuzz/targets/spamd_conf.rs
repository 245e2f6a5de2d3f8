//! spamd.conf(5): whatever it says, its lists have names, and what is wrong is one sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_lists::read_spamd_conf;

fuzz_target!(|text: &[u8]| {
    match read_spamd_conf(text) {
        Ok((lists, _)) => {
            for (name, _, white) in lists {
                assert!(!name.is_empty() && white.iter().all(|name| !name.is_empty()));
            }
        }
        Err(said) => assert!(!said.is_empty()),
    }
});
