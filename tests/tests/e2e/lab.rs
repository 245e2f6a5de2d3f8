//! Steps 1 to 13 between network namespaces, with the kernel filter and with peers that we did not write.

use mailgate_tests::lab;

#[test]
fn a_message_travels_from_the_wire_to_the_inbox_and_a_reply_back() {
    if let Some(obstacle) = lab::obstacle() {
        return mailgate_tests::skip(obstacle);
    }
    if !cfg!(feature = "ebpf") {
        return mailgate_tests::skip("built without the kernel filter (cargo xtask setup, cargo xtask test)");
    }
    lab::play(&mut |told| println!("{:6.1} s  {}: {}", told.at.as_secs_f64(), told.claim, told.fact))
        .unwrap();
}
