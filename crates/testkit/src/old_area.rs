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
        echo ping > root/ping; setcap cap_net_raw+ep root/ping
        mknod dev/null c 1 3 2>/dev/null || :
        mknod srv/disk b 8 1 2>/dev/null || :
        echo 0123456789abcdef0123456789abcdef > etc/machine-id
        printf 'name\377byte' > srv/deep/$(printf 'odd\377')
        touch -d '2010-01-01 00:00:00' srv srv/deep root .
    "#;
    std::fs::create_dir_all(path).expect("make a root");
    let status = Command::new("sh").args(["-c", line, "sh"]).arg(template).arg(path).status();
    assert!(status.expect("run sh").success(), "no root of OpenVZ could be made");
    for (name, value) in [("user.note", "kept"), ("trusted.secret", "kept, too")] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path.join("srv/old"), name, value.as_bytes(), flags).expect("set an attribute");
    }
}

/// The GUID that the first image of every disk has.
pub const BASE: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";
const NONE: &str = "00000000-0000-0000-0000-000000000000";

/// A filesystem of 32 MiB with such a root as [`root_at`] makes, in the file `old/<name>`, which is returned.
pub fn ext4(host: &RealHost, name: &str) -> PathBuf {
    let (root, file) = (place(host).join(format!("{name}.root")), place(host).join(name));
    root_at(host, &root);
    let status = Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).args([&root, &file]).arg("32M").status();
    assert!(status.expect("run mkfs.ext4").success(), "there is no filesystem");
    file
}

/// A disk with a GPT whose first partition is that filesystem.
pub fn with_gpt(filesystem: &[u8]) -> Vec<u8> {
    const START: u64 = 2048;
    let mut disk = vec![0; START as usize * 512];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
    // Linux's own kind of partition.
    disk[1024..1040].copy_from_slice(b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");
    disk[1024 + 32..1024 + 40].copy_from_slice(&START.to_le_bytes());
    let last = START + filesystem.len() as u64 / 512 - 1;
    disk[1024 + 40..1024 + 48].copy_from_slice(&last.to_le_bytes());
    disk.extend(filesystem);
    disk.resize(disk.len() + 1024 * 1024, 0);
    disk
}

/// Layout 5: `old/<name>` with `ve.conf` and a `root.hdd` of these images, each a GUID, the GUID of what it lies over (empty: nothing) and its bytes; the last one is
/// the present state.
pub fn ploop(host: &RealHost, name: &str, images: &[(&str, &str, Vec<u8>)]) -> PathBuf {
    let area = place(host).join(name);
    let disk = area.join("root.hdd");
    std::fs::create_dir_all(&disk).expect("make an area");
    std::os::unix::fs::symlink("5", area.join(".ve.layout")).expect("mark the layout");
    write(&area.join("ve.conf"), conf().as_bytes());
    let (mut listed, mut shots) = (String::new(), String::new());
    for (id, parent, bytes) in images {
        write(&disk.join(format!("root.hdd.{id}")), bytes);
        listed += &format!(
            "<Image><GUID>{{{id}}}</GUID><Type>Compressed</Type><File>root.hdd.{id}</File></Image>\n"
        );
        let parent = if parent.is_empty() { NONE } else { parent };
        shots += &format!("<Shot><GUID>{{{id}}}</GUID><ParentGUID>{{{parent}}}</ParentGUID></Shot>\n");
    }
    let top = images.last().map_or(BASE, |(id, ..)| id);
    let text = format!(
        "<?xml version=\"1.0\"?>\n<Parallels_disk_image Version=\"1.0\">\n<Disk_Parameters><Disk_size>65536</Disk_size></Disk_Parameters>\n\
         <StorageData><Storage><Start>0</Start><End>65536</End><Blocksize>2048</Blocksize>\n{listed}</Storage></StorageData>\n\
         <Snapshots><TopGUID>{{{top}}}</TopGUID>\n{shots}</Snapshots>\n</Parallels_disk_image>\n"
    );
    write(&disk.join("DiskDescriptor.xml"), text.as_bytes());
    area
}

/// An image of Parallels with what `disk` has, in clusters of so many sectors, or with what it has otherwise than `below`, for which there is another image.
pub fn image(disk: &[u8], below: Option<&[u8]>, sectors: u32, is_extended: bool) -> Vec<u8> {
    let cluster = sectors as usize * 512;
    let count = disk.len().div_ceil(cluster);
    let data = (64 + count * 4).div_ceil(cluster) * cluster;
    let mut table = Vec::new();
    let mut clusters = Vec::new();
    for index in 0..count {
        let of = |bytes: &[u8]| {
            bytes[(index * cluster).min(bytes.len())..((index + 1) * cluster).min(bytes.len())].to_vec()
        };
        let mut own = of(disk);
        let is_there = match below {
            Some(below) => own != of(below),
            None => own.iter().any(|byte| *byte != 0),
        };
        let place = (data + clusters.len()) / if is_extended { cluster } else { 512 };
        table.extend(if is_there { place as u32 } else { 0 }.to_le_bytes());
        if is_there {
            own.resize(cluster, 0);
            clusters.extend(own);
        }
    }
    let mut image = Vec::new();
    image.extend(if is_extended { b"WithouFreSpacExt" } else { b"WithoutFreeSpace" });
    for number in [2, 16, 0, sectors, count as u32] {
        image.extend(number.to_le_bytes());
    }
    image.extend((disk.len() as u64 / 512).to_le_bytes());
    for number in [0, (data / 512) as u32, 0, 0, 0] {
        image.extend(number.to_le_bytes());
    }
    image.extend(table);
    image.resize(data, 0);
    image.extend(clusters);
    image
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(bytes)).expect("write a file");
}
