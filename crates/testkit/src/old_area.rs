//! Private areas as OpenVZ had them, beside a host's prefix: roots that really start, made of the host's template `busybox`, and full of what a copy
//! could lose.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::RealHost;

/// What a `/etc/vz/conf/101.conf` of legacy OpenVZ says: keys that mean something, and many that do not. Its addresses are this process's, since those of all
/// tests are routed by one kernel.
pub fn conf() -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    CONF.replace("ADDRESSES", &format!("198.18.{high}.{low} 2001:db8:7e57::{high:x}{low:02x}"))
}

const CONF: &str = r#"# made by hand, long ago
ONBOOT="yes"
KMEMSIZE="14372700:14790164"
PRIVVMPAGES="65536:69632"
PHYSPAGES="0:131072"   # 512 MB
SWAPPAGES="0:0"
NUMPROC="240:240"
DISKSPACE="2097152:2306867"
QUOTATIME="0"
CPUUNITS="1000"
VE_ROOT="/vz/root/$VEID"
VE_PRIVATE="/vz/private/$VEID"
OSTEMPLATE=".busybox-x86_64"
ORIGIN_SAMPLE="basic"
TEMPLATES="mailman php"
HOSTNAME="old.example.com"
IP_ADDRESS="ADDRESSES"
NAMESERVER="192.0.2.1"
NAME="old"
FUTURE_KEY="kept"
"#;

/// A directory `old` beside the prefix.
pub fn place(host: &RealHost) -> PathBuf {
    let place = host.prefix().with_file_name("old");
    std::fs::create_dir_all(&place).expect("make a directory");
    place
}

/// Layout 4: `old/<name>` with `ve.conf` and `fs/`.
pub fn layout_4(host: &RealHost, name: &str, conf: &str) -> PathBuf {
    let area = place(host).join(name);
    std::fs::create_dir_all(&area).expect("make an area");
    root_at(host, &area.join("fs"));
    std::os::unix::fs::symlink("4", area.join(".ve.layout")).expect("mark the layout");
    write(&area.join("ve.conf"), conf.as_bytes());
    area
}

/// A root of busybox at `path`, with all that a file can have.
pub fn root_at(host: &RealHost, path: &Path) {
    let template = host.path("vz/template/busybox/latest/rootfs");
    let line = r#"
        set -e
        cp -a "$1/." "$2"
        cd "$2"
        mkdir -p root srv/deep/er usr etc dev tmp
        echo mine > root/file; chown 1000:1001 root/file; chmod 4750 root/file
        ln root/file srv/deep/hard; ln -s /etc/shadow srv/deep/er/link
        truncate -s 64M srv/hole; printf end | dd of=srv/hole bs=1 seek=32M conv=notrunc 2>/dev/null
        mkfifo srv/fifo; chmod 1777 tmp; touch -d '2001-02-03 04:05:06.789' srv/deep/er srv/old
        setfattr -n user.note -v kept srv/old 2>/dev/null || :
        setcap cap_net_raw+ep root/ping 2>/dev/null || :
        mknod dev/null c 1 3 2>/dev/null || :
        mknod srv/disk b 8 1 2>/dev/null || :
        echo 0123456789abcdef0123456789abcdef > etc/machine-id
        printf 'name\377byte' > srv/deep/$(printf 'odd\377')
        touch -d '2010-01-01 00:00:00' srv srv/deep root .
    "#;
    std::fs::create_dir_all(path).expect("make a root");
    let status = Command::new("sh").args(["-c", line, "sh"]).arg(template).arg(path).status();
    assert!(status.expect("run sh").success(), "no root of OpenVZ could be made");
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(bytes)).expect("write a file");
}
