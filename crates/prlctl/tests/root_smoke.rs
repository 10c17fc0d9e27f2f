//! The shortest way through the product, with a container that really runs.

use testkit::RealHost;

#[test]
fn root_a_reinstall_keeps_every_file_at_old() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    host.exec("web01", "echo precious > /root/file");
    host.ok(["reinstall", "web01"]);
    assert_eq!(host.exec("web01", "cat /old/root/file"), "precious");
    assert_eq!(host.run(["exec", "web01", "test -e /root/file"]).code, 1);
}
