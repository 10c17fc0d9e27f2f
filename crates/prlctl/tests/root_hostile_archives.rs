//! Archives made to harm whoever unpacks them: each is refused, with its entry named, or does nothing outside the template that it becomes.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]
#![expect(clippy::disallowed_methods, reason = "what a test attacks with is its own")]

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use testkit::attack::UnderWay;
use testkit::{Ran, RealHost, TarHeader, TarMaker};

/// A host with a file and a directory beside its prefix that nobody may touch.
struct Attacked {
    host: RealHost,
    canary: PathBuf,
    before: tree::Snapshot,
}

fn look(directory: &Path) -> tree::Snapshot {
    tree::snapshot(std::fs::File::open(directory).unwrap().as_fd()).unwrap()
}

impl Attacked {
    fn new() -> Option<Attacked> {
        let host = RealHost::bare(env!("CARGO_BIN_EXE_prlctl"))?;
        // An archive may be read by anybody; what it aims at lies where paths from a root of ours would lead.
        let canary = host.path("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("file"), "untouched\n").unwrap();
        std::fs::create_dir(canary.join("directory")).unwrap();
        let before = look(&canary);
        Some(Attacked { host, canary, before })
    }

    /// `@` in a path or a target stands for the canary's directory on the host.
    fn at(&self, path: &str) -> String {
        path.replace('@', &self.canary.display().to_string())
    }

    fn import(&self, archive: &[u8]) -> Ran {
        let path = self.host.path("archive");
        std::fs::write(&path, archive).unwrap();
        let ran = Ran::of(
            self.host.vzpkg().args(["create", "cache", "hostile", "--from"]).arg(path).output().unwrap(),
        );
        let differences = self.before.differences(&look(&self.canary));
        assert!(differences.is_empty(), "{differences:?}\n{ran}");
        let is_raw = |byte: &u8| (*byte < b' ' && *byte != b'\n') || *byte == 0x7f;
        assert!(!ran.stderr.as_bytes().iter().any(is_raw), "something raw reaches the terminal\n{ran}");
        ran
    }

    /// It is no template then, and nothing of it is left.
    fn refused(&self, archive: &[u8], code: i32, said: &[&str]) {
        let ran = self.import(archive);
        ran.failed(code, said);
        assert_eq!(names(&self.host.path("vz/template")), Vec::<String>::new(), "{ran}");
    }

    /// It is a template then: its root.
    fn taken(&self, archive: &[u8]) -> PathBuf {
        let ran = self.import(archive);
        assert_eq!(ran.code, 0, "{ran}");
        self.host.path("vz/template/hostile/latest/rootfs")
    }
}

fn names(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn under_way(attack: &str) -> UnderWay {
    UnderWay::begin(env!("CARGO_BIN_EXE_prlctl"), attack, "hostile archives")
}

macro_rules! refused {
    ($($name:ident: $archive:expr, $code:literal, [$($said:literal),+];)+) => {$(
        #[test]
        fn $name() {
            let Some(attacked) = Attacked::new() else { return };
            let under_way = under_way(stringify!($name));
            let make: fn(&Attacked) -> Vec<u8> = $archive;
            attacked.refused(&make(&attacked), $code, &[$($said),+]);
            under_way.held();
        }
    )+};
}

macro_rules! contained {
    ($($name:ident: $archive:expr, $check:expr;)+) => {$(
        #[test]
        fn $name() {
            let Some(attacked) = Attacked::new() else { return };
            let under_way = under_way(stringify!($name));
            let make: fn(&Attacked) -> Vec<u8> = $archive;
            let check: fn(&Attacked, PathBuf) = $check;
            check(&attacked, attacked.taken(&make(&attacked)));
            under_way.held();
        }
    )+};
}

/// `user::rw-,user:1:rw-,group::---,mask::rw-,other::---` in the kernel's form.
const LIST: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\x01\0\0\0\x04\0\0\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn access_list(path: PathBuf) -> Vec<u8> {
    let mut list = vec![0; 256];
    let length = rustix::fs::getxattr(path, "system.posix_acl_access", &mut list[..]).unwrap_or_default();
    list.truncate(length);
    list
}

fn pax_file(records: &[(&str, &[u8])]) -> Vec<u8> {
    TarMaker::root().pax(records).file("file", b"data").finish()
}

/// An image as Incus writes them.
fn unified() -> TarMaker {
    TarMaker::new().file("metadata.yaml", b"").executable("rootfs/sbin/init", b"#!/bin/sh\n")
}

fn sparse(map: &[u8], size: &[u8], data: &[u8]) -> Vec<u8> {
    TarMaker::root()
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.size", size),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", map),
        ])
        .file("file", data)
        .finish()
}

refused! {
    root_tar_path_upwards: |_| TarMaker::root().file("../evil", b"x").finish(), 21, ["`../evil` in the archive", "leads upwards", "hint: no tool writes such an archive of a root"];
    root_tar_path_upwards_from_below: |_| TarMaker::root().file("sbin/../../evil", b"x").finish(), 21, ["`sbin/../../evil`", "leads upwards"];
    root_tar_path_upwards_and_back: |_| TarMaker::root().file("sbin/../etc/x", b"x").finish(), 21, ["leads upwards"];
    root_tar_path_that_is_two_dots: |_| TarMaker::root().directory("..").finish(), 21, ["`..` in the archive", "leads upwards"];
    root_tar_long_path_upwards: |_| TarMaker::root().long_name(b"../../../../../../../../evil").file("x", b"x").finish(), 21, ["leads upwards"];
    root_tar_pax_path_upwards: |_| pax_file(&[("path", b"../../evil")]), 21, ["`../../evil`", "leads upwards"];
    root_tar_sparse_path_upwards: |_| pax_file(&[("GNU.sparse.name", b"../evil"), ("GNU.sparse.major", b"0"), ("GNU.sparse.size", b"4")]), 21, ["leads upwards"];
    root_tar_through_a_link_out: |attacked| {
        TarMaker::root().link(b'2', "out", &attacked.at("@")).file("out/file", b"x").finish()
    }, 21, ["`out/file`", "goes through a link that leads nowhere"];
    root_tar_through_a_loop: |_| TarMaker::root().link(b'2', "a", "b").link(b'2', "b", "a").file("a/x", b"x").finish(), 21, ["`a/x`", "Too many levels of symbolic links"];
    root_tar_hard_link_out: |attacked| {
        TarMaker::root().link(b'1', "mine", &attacked.at("@/file")).finish()
    }, 21, ["`mine` in the archive", "is one more name of", "which is not there"];
    root_tar_hard_link_upwards: |_| TarMaker::root().link(b'1', "mine", "../../../../../../etc/passwd").finish(), 21, ["`mine`", "leads upwards"];
    root_tar_hard_link_through_a_link_out: |attacked| {
        TarMaker::root().link(b'2', "out", &attacked.at("@")).link(b'1', "mine", "out/file").finish()
    }, 21, ["`mine`", "which is not there"];
    root_tar_hard_link_to_a_directory: |_| TarMaker::root().link(b'1', "mine", "sbin").finish(), 21, ["`mine`", "which is a directory"];
    root_tar_hard_link_to_itself: |_| TarMaker::root().link(b'1', "mine", "mine").finish(), 21, ["`mine`", "which is not there"];
    root_tar_file_in_a_file: |_| TarMaker::root().file("a", b"x").file("a/b", b"x").finish(), 21, ["`a/b`", "Not a directory"];
    root_tar_top_that_is_a_file: |_| TarMaker::root().file("./", b"").file(".", b"x").finish(), 21, ["its path is that of the top"];
    root_tar_without_a_name: |_| TarMaker::root().file("", b"x").finish(), 21, ["its path is that of the top"];
    root_tar_of_eight_terabytes: |_| TarMaker::root().header(TarHeader::new(b'0', b"bomb").size(8 << 40)).finish(), 46, ["`bomb`", "with it there are more than", "bytes"];
    root_tar_of_all_bytes_there_are: |_| pax_file(&[("size", b"18446744073709551615")]), 46, ["`file`", "with it there are more than"];
    root_tar_sparse_beyond_any_file: |_| sparse(b"0,4", b"18446744073709551615", b"data"), 21, ["`file`", "cannot write"];
    root_tar_a_thousand_directories_deep: |_| TarMaker::root().long_name("d/".repeat(1100).as_bytes()).file("x", b"").finish(), 21, ["more than 1,024 names"];
    root_tar_path_of_ten_thousand_bytes: |_| TarMaker::root().long_name(format!("{}/x", "d".repeat(200)).repeat(50).as_bytes()).file("x", b"").finish(), 21, ["File name too long"];
    root_tar_name_of_300_bytes: |_| TarMaker::root().long_name("n".repeat(300).as_bytes()).file("x", b"").finish(), 21, ["File name too long"];
    root_tar_name_of_two_megabytes: |_| TarMaker::root().long_name(&vec![b'n'; 2 << 20]).file("x", b"").finish(), 21, ["a name of 2097152 bytes"];
    root_tar_name_of_a_terabyte: |_| TarMaker::root().header(TarHeader::new(b'L', b"x").size(1 << 40)).finish(), 21, ["a name of 1099511627776 bytes"];
    root_tar_link_without_a_target: |_| TarMaker::root().link(b'2', "link", "").finish(), 21, ["`link`", "cannot make it"];
    root_tar_link_with_a_long_target: |_| TarMaker::root().link(b'2', "link", &"t".repeat(5000)).finish(), 21, ["`link`", "File name too long"];
    root_tar_name_with_escapes: |_| TarMaker::root().file("../\x1b[2J\x1b]0;x\x07\n", b"x").finish(), 21, ["`../\\x1b[2J\\x1b]0;x\\x07\\n`"];
    root_tar_path_with_a_nul: |_| pax_file(&[("path", b"a\0b")]), 21, ["has a NUL in it"];
    root_tar_pax_size_below_zero: |_| pax_file(&[("size", b"-1")]), 21, ["`size` is no number: `-1`"];
    root_tar_pax_owner_that_is_nobody: |_| pax_file(&[("uid", b"4294967295")]), 21, ["its owner cannot be 4294967295"];
    root_tar_pax_group_beyond_32_bits: |_| pax_file(&[("gid", b"4294967301")]), 21, ["its group cannot be"];
    root_tar_pax_time_that_is_none: |_| pax_file(&[("mtime", b"nan")]), 21, ["`mtime` is no moment: `nan`"];
    root_tar_pax_record_of_a_wrong_length: |_| TarMaker::root().entry(b'x', b"x", b"99 path=evil\n").file("x", b"").finish(), 21, ["an extended header that is none"];
    root_tar_pax_record_that_never_ends: |_| TarMaker::root().entry(b'x', b"x", b"12 path=evilx").file("x", b"").finish(), 21, ["an extended header that is none"];
    root_tar_pax_header_of_five_megabytes: |_| TarMaker::root().entry(b'x', b"x", &TarMaker::record("comment", &vec![b'c'; 5 << 20])).file("x", b"").finish(), 21, ["an extended header of"];
    root_tar_pax_header_of_a_terabyte: |_| TarMaker::root().header(TarHeader::new(b'x', b"x").size(1 << 40)).finish(), 21, ["an extended header of 1099511627776 bytes"];
    root_tar_pax_header_of_nothing: |_| TarMaker::root().pax(&[("path", b"x")]).finish(), 21, ["it ends after the header of a header"];
    root_tar_link_with_data: |_| TarMaker::root().header(TarHeader::new(b'2', b"link").put(157, b"x").size(512)).data(&[0; 512]).finish(), 21, ["`link`", "it has data, as no entry of its kind has"];
    root_tar_access_list_of_megabytes: |_| pax_file(&[("SCHILY.acl.access", &vec![b','; 1 << 20])]), 21, ["an access list of 1048576 bytes"];
    root_tar_extended_headers_without_end: |_| {
        let many = (0..100).fold(TarMaker::root(), |maker, number| maker.pax(&[(&format!("k{number}"), b"v")]));
        many.file("x", b"").finish()
    }, 21, ["one header after the other, and no entry"];
    root_tar_extended_headers_that_add_up: |_| {
        let value = vec![b'v'; 1 << 20];
        (0..5).fold(TarMaker::root(), |maker, number| maker.pax(&[(&format!("k{number}"), &value)])).file("x", b"").finish()
    }, 21, ["extended headers of more than"];
    root_tar_global_headers_that_add_up: |_| {
        let global = |number: u32| TarMaker::record(&format!("k{number}"), &[b'v'; 9_000]);
        (0..9).fold(TarMaker::root(), |maker, number| maker.entry(b'g', b"g", &global(number)).file("x", b"")).finish()
    }, 21, ["extended headers of more than"];
    root_gzip_that_goes_on_after_its_end: |_| gzip(&[TarMaker::root().finish(), vec![0; 65 << 20]].concat()), 21, ["it goes on after its end"];
    root_tar_header_with_a_wrong_sum: |_| {
        let mut block = TarHeader::new(b'0', b"x").finished();
        block[0] = b'y';
        TarMaker::root().raw(&block).finish()
    }, 21, ["a header with a wrong sum"];
    root_tar_of_an_unknown_kind: |_| TarMaker::root().entry(b'Z', b"odd", b"x").finish(), 21, ["`odd`", "of a kind that is not known: `Z`"];
    root_tar_from_another_volume: |_| TarMaker::root().entry(b'M', b"more", b"x").finish(), 21, ["goes on from another volume"];
    root_tar_with_a_size_below_zero: |_| TarMaker::root().header(TarHeader::new(b'0', b"x").put(124, &[0xff; 12])).finish(), 46, ["with it there are more than"];
    root_tar_that_breaks_off: |_| TarMaker::root().file("x", b"x").unfinished(), 21, ["it breaks off, without the mark of its end"];
    root_tar_that_breaks_off_in_a_file: |_| TarMaker::root().header(TarHeader::new(b'0', b"x").size(9999)).raw(b"few").unfinished(), 21, ["`x`", "the archive breaks off"];
    root_tar_mode_of_blanks: |_| TarMaker::root().header(TarHeader::new(b'0', b"x").put(100, b"        ")).finish(), 21, ["`x`", "its mode is no number"];
    root_tar_mode_of_letters: |_| TarMaker::root().header(TarHeader::new(b'0', b"x").put(100, b"rwxr-xr\0")).finish(), 21, ["`x`", "its mode is no number"];
    root_tar_opaque_mark: |_| pax_file(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]), 21, ["`file`", "`trusted.overlay.opaque`, which only overlayfs may set"];
    root_tar_redirect_mark: |_| pax_file(&[("SCHILY.xattr.trusted.overlay.redirect", b"/")]), 21, ["`trusted.overlay.redirect`"];
    root_tar_redirect_mark_of_libarchive: |_| pax_file(&[("LIBARCHIVE.xattr.trusted.overlay.redirect", b"Lw")]), 21, ["`trusted.overlay.redirect`"];
    root_tar_attribute_of_a_hundred_kilobytes: |_| pax_file(&[("SCHILY.xattr.user.x", &vec![b'v'; 100_000])]), 21, ["its attribute `user.x` has 100000 bytes"];
    root_tar_attribute_that_cannot_be: |_| pax_file(&[("SCHILY.xattr.user.", b"v")]), 21, ["`file`", "cannot give its attributes to it"];
    root_tar_access_list_in_the_form_of_the_kernel_that_is_none: |_| pax_file(&[("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0\x01\0")]), 21, ["`file`", "cannot give its attributes to it"];
    root_tar_default_access_list_of_a_file: |_| pax_file(&[("SCHILY.xattr.system.posix_acl_default", LIST)]), 21, ["`file`", "cannot give its attributes to it"];
    root_tar_access_list_that_is_none: |_| pax_file(&[("SCHILY.acl.access", b"user::rwx,cat::r")]), 21, ["an access list with `cat::r`"];
    root_tar_access_list_for_a_stranger: |_| pax_file(&[("SCHILY.acl.access", b"user::rwx,user:eve:rwx,group::r--,mask::rwx,other::---")]), 21, ["an access list for `eve`, of whom nothing is known"];
    root_tar_sparse_map_that_overlaps: |_| sparse(b"0,3,2,1", b"9", b"data"), 21, ["`file`", "a map of holes that cannot be"];
    root_tar_sparse_map_beyond_its_file: |_| sparse(b"100,4", b"9", b"data"), 21, ["a map of holes that cannot be"];
    root_tar_sparse_map_of_more_than_there_is: |_| sparse(b"0,400", b"999", b"data"), 21, ["a map of holes for 400 bytes where there are 4"];
    root_tar_old_sparse_headers_without_a_piece: |_| {
        let mut more = [0; 512];
        more[504] = 1;
        let many = (0..20_000).fold(TarMaker::root().header(&mut old_sparse()), |maker, _| maker.raw(&more));
        many.raw(&[0; 512]).finish()
    }, 21, ["`holes` in the archive", "its map of holes has no end"];
    root_tar_sparse_map_of_a_million_pieces: |_| {
        let mut map = b"9999999\n".to_vec();
        map.resize(512, b'0');
        TarMaker::root().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")]).file("file", &map).finish()
    }, 21, ["a file with 9999999 holes"];
    root_tar_without_an_init: |_| TarMaker::new().file("etc/passwd", b"").finish(), 21, ["it has no init: there is no /sbin/init"];
    root_tar_with_an_init_out: |attacked| {
        std::fs::set_permissions(attacked.canary.join("file"), PermissionsExt::from_mode(0o644)).unwrap();
        TarMaker::new().directory("sbin").link(b'2', "sbin/init", &attacked.at("@/file")).finish()
    }, 21, ["it has no init"];
    root_tar_of_nothing: |_| TarMaker::new().finish(), 21, ["there is nothing in the archive"];
    root_tar_for_another_machine: |_| {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 8;
        TarMaker::new().executable("sbin/init", &elf).finish()
    }, 21, ["its programs are for mips, and this host is"];
    root_zstd_window_of_two_gigabytes: |_| b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".repeat(100), 21, ["it is compressed so that more than 64 MiB of memory are needed to undo it", "hint: undo it by hand, with `zstd --decompress --long=31 FILE`"];
    root_xz_dictionary_of_four_gigabytes: |_| xz_of_four_gigabytes(), 21, ["it is compressed so that more than 64 MiB of memory are needed to undo it", "hint: undo it by hand, with `zstd --decompress --long=31 FILE`"];
    root_gzip_in_gzip: |_| {
        let noise: Vec<u8> = (0..9999u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        gzip(&gzip(&TarMaker::root().file("noise", &noise).finish()))
    }, 21, ["the archive is damaged at byte 512: it is no tar archive"];
    root_gzip_that_goes_on_as_nonsense: |_| [gzip(&TarMaker::root().finish()), vec![b'x'; 600]].concat(), 21, ["the archive cannot be read"];
    root_gzip_that_goes_on_after_zeros: |_| [gzip(&TarMaker::root().finish()), vec![0; 600], b"x".to_vec()].concat(), 21, ["the archive cannot be read", "something else after zeros"];
    root_no_archive_at_all: |_| b"#!/bin/sh\n".repeat(100), 21, ["it is no tar archive"];
    root_empty_file: |_| Vec::new(), 21, ["it is an empty file", "hint: `--from` takes a tar archive"];
    root_squashfs: |_| b"hsqs".repeat(200), 21, ["it is a squashfs image", "hint: unpack it with `unsquashfs -d DIR FILE`, and name what it makes with `--from DIR`"];
    root_unified_path_upwards: |_| unified().file("rootfs/../evil", b"x").finish(), 21, ["`rootfs/../evil`", "leads upwards"];
    root_unified_path_upwards_beside_its_root: |_| unified().file("../evil", b"x").finish(), 21, ["`../evil`", "leads upwards"];
    root_unified_with_a_root_beside_it: |_| unified().file("etc/passwd", b"").finish(), 21, ["there are two roots in it", "another one in `rootfs/`"];
    root_unified_hard_link_to_what_is_beside: |_| unified().link(b'1', "rootfs/mine", "metadata.yaml").finish(), 21, ["`rootfs/mine`", "which is not there"];
    root_unified_root_that_is_a_link: |_| TarMaker::new().file("metadata.yaml", b"").link(b'2', "rootfs", "/").file("rootfs/x", b"").finish(), 21, ["`rootfs`", "its path is that of the top"];
    root_unified_for_another_machine: |_| {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 8;
        TarMaker::new().file("metadata.yaml", b"architecture: mips\n").executable("rootfs/sbin/init", &elf).finish()
    }, 21, ["its programs are for mips, and this host is"];
    root_incus_backup: |_| TarMaker::new().directory("backup").file("backup/index.yaml", b"name: web01\n").executable("backup/container/rootfs/sbin/init", b"#!/bin/sh\n").finish(), 21, ["it is a backup of Incus or LXD", "hint: make an image", "incus publish"];
    root_rootfs_without_metadata: |_| TarMaker::new().executable("rootfs/sbin/init", b"#!/bin/sh\n").finish(), 21, ["it has no init"];
    root_zip: |_| b"PK\x03\x04".repeat(200), 21, ["it is a zip archive", "hint: it has neither owners nor modes: unpack it with `unzip"];
    root_bzip2: |_| b"BZh9".repeat(200), 21, ["it is compressed with bzip2", "hint: compress it anew: `bzcat"];
}

contained! {
    root_tar_absolute_path: |attacked| TarMaker::root().long_name(attacked.at("@/file").as_bytes()).file("x", b"mine").finish(), |attacked, root| {
        assert_eq!(read(root.join(attacked.at("@/file").trim_start_matches('/'))), "mine");
    };
    root_tar_through_a_link_that_climbs: |_| TarMaker::root().link(b'2', "out", "../../../../../..").file("out/mine", b"x").finish(), |_, root| {
        assert_eq!(read(root.join("mine")), "x");
    };
    root_tar_through_a_link_to_the_top: |_| TarMaker::root().link(b'2', "out", "/").file("out/mine", b"x").finish(), |_, root| {
        assert_eq!(read(root.join("mine")), "x");
    };
    root_tar_file_over_a_link_out: |attacked| {
        TarMaker::root().link(b'2', "over", &attacked.at("@/file")).file("over", b"mine").finish()
    }, |_, root| {
        assert_eq!(read(root.join("over")), "mine");
        assert!(root.join("over").symlink_metadata().unwrap().is_file());
    };
    root_tar_directory_over_a_link_out: |attacked| {
        let mut header = TarHeader::new(b'5', b"over");
        TarMaker::root().link(b'2', "over", &attacked.at("@/directory")).header(header.mode(0o7777)).file("over/x", b"x").finish()
    }, |_, root| assert!(root.join("over").symlink_metadata().unwrap().is_dir());
    root_tar_fifo_over_a_link_out: |attacked| {
        TarMaker::root().link(b'2', "over", &attacked.at("@/file")).entry(b'6', b"over", b"").finish()
    }, |_, root| assert!(root.join("over").symlink_metadata().unwrap().file_type().is_fifo());
    root_tar_link_over_a_full_directory: |_| {
        TarMaker::root().file("full/a/b/c", b"x").link(b'2', "full", "/etc").finish()
    }, |_, root| assert!(root.join("full").symlink_metadata().unwrap().is_symlink());
    root_tar_hard_link_to_a_link_out: |attacked| {
        TarMaker::root().link(b'2', "out", &attacked.at("@/file")).link(b'1', "more", "out").file("more", b"mine").finish()
    }, |_, root| {
        assert_eq!(read(root.join("more")), "mine");
        assert!(root.join("out").symlink_metadata().unwrap().is_symlink());
    };
    root_tar_file_over_one_of_two_names: |_| {
        TarMaker::root().file("a", b"first").link(b'1', "b", "a").file("b", b"second").finish()
    }, |_, root| assert_eq!((read(root.join("a")), read(root.join("b"))), ("first".into(), "second".into()));
    root_tar_directory_times_through_a_link_out: |attacked| {
        // Its times come last, and it is a link by then.
        TarMaker::root().directory("d").link(b'2', "d", &attacked.at("@/directory")).finish()
    }, |_, root| assert!(root.join("d").symlink_metadata().unwrap().is_symlink());
    root_tar_access_list_through_a_link_out: |attacked| {
        let list = b"user::rwx,user:1:rwx,group::rwx,mask::rwx,other::rwx";
        TarMaker::root().pax(&[("SCHILY.acl.access", list)]).file("f", b"").link(b'2', "f", &attacked.at("@/file")).finish()
    }, |_, root| assert!(root.join("f").symlink_metadata().unwrap().is_symlink());
    root_tar_device_nodes: |_| {
        let device = |kind: u8, major: u64, minor: u64| {
            let mut header = TarHeader::new(kind, format!("device-{major}-{minor}").as_bytes());
            header.number(329, 8, major).number(337, 8, minor).clone()
        };
        TarMaker::root().header(&mut device(b'3', 1, 3)).header(&mut device(b'4', 8, 0)).header(&mut device(b'3', 0, 0)).finish()
    }, |attacked, root| {
        assert_eq!(names(&root), ["sbin"]);
        let ran = attacked.import(&TarMaker::root().header(TarHeader::new(b'4', b"dev/sda").number(329, 8, 8)).finish());
        assert!(ran.stderr.contains("1 device node is left out (`dev/sda`)"), "{ran}");
    };
    root_tar_attributes_of_another_system: |_| {
        let raw = "SCHILY.xattr.\x1b[2J";
        pax_file(&[("SCHILY.xattr.com.apple.quarantine", b"x"), ("LIBARCHIVE.xattr.nonsense", b"eA"), (raw, b"x"), ("SCHILY.xattr.user.x", b"kept")])
    }, |attacked, root| {
        let mut names = [0; 256];
        let length = rustix::fs::listxattr(root.join("file"), &mut names[..]).unwrap();
        assert_eq!(&names[..length], b"user.x\0");
        let ran = attacked.import(&(0..9).fold(TarMaker::root(), |maker, number| {
            maker.pax(&[(&format!("SCHILY.xattr.com.apple.{number}"), &b"x"[..])]).file("file", b"")
        }).finish());
        let told = "attributes of 9 entries are left out (`com.apple.0`, `com.apple.1`, `com.apple.2`, `com.apple.3`, `com.apple.4` and others): Linux has none of such names";
        assert_eq!(ran.stderr.matches(told).count(), 1, "{ran}");
    };
    root_tar_headers_in_the_data_of_a_directory: |_| {
        let hidden = TarHeader::new(b'0', b"hidden").finished();
        TarMaker::root().header(TarHeader::new(b'0', b"dd/").size(512)).data(&hidden)
            .header(TarHeader::new(b'6', b"fifo").size(512)).data(&hidden).finish()
    }, |_, root| assert!(root.join("dd").is_dir() && root.join("fifo").exists() && !root.join("hidden").exists());
    root_tar_access_list_of_what_was_replaced: |_| {
        let named = b"user::rwx,user:anna:rwx,group::r--,mask::rwx,other::---";
        let numbered = b"user::rwx,user:1000:rwx,group::r--,mask::rwx,other::---";
        TarMaker::root()
            .file("etc/passwd", b"anna:x:1000:1000::/:/bin/sh\n")
            .pax(&[("SCHILY.acl.access", named)]).file("first", b"").file("./first", b"")
            .pax(&[("SCHILY.acl.access", numbered)]).file("second", b"").file("second", b"")
            .pax(&[("SCHILY.acl.access", named)]).file("d/f", b"").file("d", b"now a file")
            .pax(&[("SCHILY.acl.access", named)]).file("third", b"")
            .finish()
    }, |_, root| {
        let has = |name: &str| {
            let list = rustix::fs::getxattr(root.join(name), "system.posix_acl_access", &mut [0u8; 256][..]);
            list.is_ok()
        };
        assert!(!has("first") && !has("second") && has("third"));
    };
    root_tar_access_lists_in_the_form_of_the_kernel: |_| {
        let key = "SCHILY.xattr.system.posix_acl_access";
        let said = b"user::rw-,user:2:r--,group::---,mask::r--,other::---";
        TarMaker::root()
            .pax(&[(key, LIST)]).file("file", b"")
            // In words counts.
            .pax(&[(key, b"nonsense"), ("SCHILY.acl.access", said)]).file("said", b"")
            // No list is theirs.
            .pax(&[(key, LIST)]).link(b'2', "link", "said")
            .pax(&[(key, LIST)]).link(b'1', "more", "said")
            .pax(&[(key, LIST)]).header(TarHeader::new(b'3', b"device").number(329, 8, 1))
            .finish()
    }, |_, root| {
        assert_eq!(access_list(root.join("file")), LIST);
        assert_eq!(root.join("file").metadata().unwrap().mode() & 0o777, 0o660, "its mask");
        let said = access_list(root.join("said"));
        assert_eq!((said.len(), said[16]), (LIST.len(), 2));
        assert!(root.join("link").symlink_metadata().unwrap().is_symlink() && root.join("more").exists());
    };
    root_tar_hard_links_to_a_device: |_| {
        TarMaker::root()
            .header(TarHeader::new(b'3', b"dev/null").number(329, 8, 1).number(337, 8, 3))
            .file("one", b"goes").link(b'1', "one", "dev/null").link(b'1', "two", "./one").link(b'1', "three", "/dev//null")
            // Something else by now.
            .header(&mut TarHeader::new(b'3', b"file")).file("file", b"x").link(b'1', "four", "file")
            .finish()
    }, |attacked, root| {
        let mut found = names(&root);
        found.sort();
        assert_eq!(found, ["file", "four", "sbin"]);
        let archive = TarMaker::root().header(&mut TarHeader::new(b'4', b"sda")).link(b'1', "disk", "sda").finish();
        let ran = attacked.import(&archive);
        assert!(ran.stderr.contains("2 device nodes are left out (`sda`, `disk`)"), "{ran}");
    };
    root_tar_setuid_program: |_| TarMaker::root().header(TarHeader::new(b'0', b"su").mode(0o6755)).finish(), |attacked, root| {
        assert_eq!(root.join("su").metadata().unwrap().mode() & 0o7777, 0o6755);
        // Nobody but root gets as far as to it.
        assert_eq!(attacked.host.path("vz/template").metadata().unwrap().mode() & 0o7777, 0o700);
    };
    root_tar_without_a_mode: |_| {
        let empty = |name: &str, field: &[u8; 8]| TarHeader::new(b'0', name.as_bytes()).put(100, field).clone();
        TarMaker::root().header(&mut empty("nuls", &[0; 8])).header(&mut empty("blanks", b"      \0 ")).finish()
    }, |_, root| {
        for name in ["nuls", "blanks"] {
            assert_eq!(root.join(name).metadata().unwrap().mode() & 0o7777, 0, "{name}");
        }
    };
    root_tar_sparse_file_of_a_terabyte: |_| sparse(b"0,4", b"1099511627776", b"data"), |_, root| {
        let file = root.join("file").metadata().unwrap();
        assert!(file.len() == 1 << 40 && file.blocks() < 100);
    };
    root_tar_whiteouts_that_are_files: |_| TarMaker::root().file("keep", b"x").file(".wh.keep", b"").file(".wh..wh..opq", b"").finish(), |_, root| {
        // An archive of a root is no layer: there they are files like any.
        assert!(root.join("keep").is_file() && root.join(".wh.keep").is_file());
    };
    root_tar_name_with_a_nul_in_it: |_| TarMaker::root().long_name(b"short\0/../../evil").file("x", b"x").finish(), |_, root| {
        assert_eq!(read(root.join("short")), "x");
    };
    root_tar_time_at_the_end_of_all_times: |_| pax_file(&[("mtime", b"9223372036854775807"), ("atime", b"-9223372036854775807.9")]), |_, root| {
        assert!(root.join("file").is_file());
    };
    root_tar_the_same_name_again_and_again: |_| {
        (0..1000).fold(TarMaker::root(), |maker, number| {
            if number % 2 == 0 { maker.directory("x").file("x/y", b"x") } else { maker.file("x", b"x") }
        }).finish()
    }, |_, root| assert!(root.join("x").is_file());
    root_gzip_filled_up_with_zeros: |_| [gzip(&TarMaker::root().finish()), vec![0; 9999]].concat(), |_, root| {
        assert_eq!(names(&root), ["sbin"]);
    };
    root_unified_link_out: |attacked| {
        unified().link(b'2', "rootfs/out", &attacked.at("@/file")).file("rootfs/out", b"mine").link(b'2', "rootfs/up", "../../..").file("rootfs/up/x", b"x").finish()
    }, |_, root| assert_eq!((read(root.join("out")), read(root.join("x"))), ("mine".into(), "x".into()));
    root_tar_with_a_directory_rootfs: |_| TarMaker::new().directory("rootfs").file("rootfs/x", b"x").executable("sbin/init", b"#!/bin/sh\n").finish(), |_, root| {
        assert_eq!(read(root.join("rootfs/x")), "x");
    };
    root_tar_with_a_backup_in_it: |_| TarMaker::root().file("backup/index.yaml", b"x").file("metadata.yaml", b"").finish(), |_, root| {
        assert!(root.join("backup/index.yaml").exists() && root.join("metadata.yaml").exists());
    };
    root_tar_nonsense_after_its_end: |_| [TarMaker::root().finish(), b"\xff".repeat(9999)].concat(), |_, root| {
        assert_eq!(names(&root), ["sbin"]);
    };
}

/// A file with holes in GNU's old form, whose map goes on in the next block.
fn old_sparse() -> TarHeader {
    TarHeader::new(b'S', b"holes").put(257, b"ustar  \0").put(482, b"\x01").number(483, 12, 0).clone()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// A stream whose one block wants a dictionary of 4 GiB: with the sums that liblzma looks at before it gives in.
fn xz_of_four_gigabytes() -> Vec<u8> {
    let mut stream = b"\xfd7zXZ\0\x00\x04\xe6\xd6\xb4\x46".to_vec();
    // Size of the header, no sizes, LZMA2 with the largest dictionary.
    let block = [0x02, 0x00, 0x21, 0x01, 40, 0, 0, 0];
    stream.extend(block);
    stream.extend(crc32(&block).to_le_bytes());
    stream.resize(1024, 0xe0);
    stream
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

/// What an archive asks for is bounded, whatever it is compressed with: on a filesystem that has not room enough nothing of a bomb is even begun.
#[test]
fn root_tar_bomb_on_a_small_filesystem() {
    let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "160M", "ext4") else { return };
    let bomb = TarMaker::root().header(TarHeader::new(b'0', b"zeros").size(1 << 30)).unfinished();
    let path = host.path("bomb.tar");
    std::fs::write(&path, bomb).unwrap();
    let ran = Ran::of(host.vzpkg().args(["create", "cache", "bomb", "--from"]).arg(&path).output().unwrap());
    ran.failed(46, &["`zeros`", "with it there are more than", "make room"]);
    assert_eq!(names(&host.path("vz/template")), Vec::<String>::new());
}

/// What makes nothing is counted, too: as many entries as one likes are a few bytes when they are compressed.
#[test]
fn root_tar_bomb_of_entries_that_make_nothing() {
    let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "160M", "ext4") else { return };
    let count = rustix::fs::statvfs(host.path("")).unwrap().f_favail;
    let many = |maker: TarMaker, kind: u8, name: &str| {
        let header = TarHeader::new(kind, name.as_bytes()).finished();
        gzip(&maker.raw(&header.repeat(count as usize)).finish())
    };
    for (bomb, name) in [
        (many(TarMaker::root(), b'3', "dev/null"), "`dev/null`"),
        (many(unified(), b'0', "templates/x"), "`templates/x`"),
    ] {
        let path = host.path("bomb.tar.gz");
        std::fs::write(&path, bomb).unwrap();
        let made = host.vzpkg().args(["create", "cache", "bomb", "--from"]).arg(&path).output().unwrap();
        Ran::of(made).failed(46, &[name, "with it there are more than", "entries"]);
        assert_eq!(names(&host.path("vz/template")), Vec::<String>::new());
    }
}
