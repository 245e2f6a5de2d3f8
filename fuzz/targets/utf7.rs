//! Every name comes back; what decodes is valid text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_proto::imap::utf7;

fuzz_target!(|text: &str| {
    let encoded = utf7::encode(text);
    assert!(encoded.is_ascii(), "{encoded:?}");
    assert_eq!(utf7::decode(&encoded).as_deref(), Some(text));
    if let Some(decoded) = utf7::decode(text) {
        assert_eq!(utf7::decode(&utf7::encode(&decoded)), Some(decoded));
    }
});
