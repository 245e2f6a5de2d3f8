//! What is read, written and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_model::{Address, Domain, ForwardPath, ReversePath};

fuzz_target!(|text: &str| {
    if let Ok(address) = Address::parse(text) {
        let written = address.to_string();
        assert_eq!(Address::parse(&written).as_ref(), Ok(&address), "{written:?}");
        assert!(!written.chars().any(char::is_control), "{written:?}");
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()), Ok(domain));
    }
    if let Ok(path) = ForwardPath::try_from(text.to_owned()) {
        assert_eq!(ForwardPath::try_from(path.to_string()), Ok(path));
    }
    if let Ok(path) = ReversePath::try_from(text.to_owned()) {
        assert_eq!(ReversePath::try_from(path.to_string()), Ok(path));
    }
});
