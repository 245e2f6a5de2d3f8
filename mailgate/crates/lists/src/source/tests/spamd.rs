//! A spamd.conf as a source: `A:W:B`, `%A`, lists that fail one by one.

use super::*;

fn config(path: &Path) -> String {
    format!("[[source]]\nkind = \"spamd\"\nname = \"traps\"\npath = {path:?}\ntable = \"block\"\n")
}

#[tokio::test]
async fn white_lists_take_out_of_the_black_list_before_them_and_each_list_says_its_own() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    let at = |name: &str| state.path().join(name);
    fs::write(at("a.gz"), gzip(b"# A\n192.0.2.0 - 192.0.2.3 some words\n198.51.100.7\n2001:db8::1\n"))
        .unwrap();
    fs::write(at("w"), "192.0.2.2\n198.51.100.7\n").unwrap();
    fs::write(at("b.msg"), "B knows %A,\n100%% sure").unwrap();
    feed.says(Sent::text(b"198.51.100.7\n"));
    let url = feed.url("/b");
    let conf = format!(
        "all:\\\n\t:A:W:B:\nA:\\\n\t:black:\\\n\t:msg=\"A \\\"lists\\\" %A\\n\\\n\tfor reasons\":\\\n\t:file={}:\n\
         W:white:method=file:file={}:\nB:\\\n\t:black:\\\n\t:msg={}:\\\n\t:method=http:\\\n\t:file=\"{url}\":\n",
        at("a.gz").display(),
        at("w").display(),
        at("b.msg").display()
    );
    fs::write(at("spamd.conf"), conf).unwrap();
    let station = Station::start(&config(&at("spamd.conf")), state.path(), T0);
    let row = station.good().await;
    assert_eq!(row.error, None, "{row:?}");
    // W takes 192.0.2.2 and 198.51.100.7 out of A; B still has the latter.
    assert_eq!(station.held().await, ["192.0.2.0/31", "192.0.2.3/32", "198.51.100.7/32", "2001:db8::1/128"]);
    assert_eq!(station.told("192.0.2.1").await, ["A \"lists\" 192.0.2.1\nfor reasons"]);
    assert_eq!(station.told("198.51.100.7").await, ["B knows 198.51.100.7,\n100% sure"]);
    assert_eq!(station.told("192.0.2.2").await, [""; 0]);
    assert!(row.problems.iter().any(|said| said.contains("B: fetched without TLS")), "{:?}", row.problems);

    // Two lists name the same address: it is told both.
    feed.says(Sent::text(b"198.51.100.7\n192.0.2.1\n"));
    assert_eq!(station.reload().await.outcome, "taken");
    let told = station.told("192.0.2.1").await;
    assert_eq!(told.len(), 2, "{told:?}");

    // One list fails: it stays as it was, the others go on.
    feed.says(Sent::text(b"<html>sorry</html>"));
    fs::write(at("w"), "192.0.2.0/30\n").unwrap();
    let done = station.reload().await;
    assert_eq!(done.outcome, "taken", "{done:?}");
    assert_eq!(station.held().await, ["192.0.2.1/32", "198.51.100.7/32", "2001:db8::1/128"]);
    let row = station.row().await;
    assert!(row.error.unwrap().starts_with("B: found an HTML or XML page"));

    // Also when it fails at the first try after a restart.
    drop(station);
    feed.says(Sent::nothing());
    let mut station =
        Station::start(&config(&at("spamd.conf")), state.path(), T0.plus(Duration::from_secs(7200)));
    assert_eq!(station.first().await, ["192.0.2.1/32", "198.51.100.7/32", "2001:db8::1/128"]);
    station.good().await;
    assert_eq!(station.held().await, ["192.0.2.1/32", "198.51.100.7/32", "2001:db8::1/128"]);
}
