use super::*;
use crate::area::tests::{container, put};
use crate::prefix::tests::prefix;
use std::time::Duration;

fn linked(prefix: &Prefix, name: &str) -> ContainerId {
    let area = container(prefix, name);
    link_name(prefix, &name.parse().unwrap(), area.id()).unwrap();
    link_conf(prefix, area.id()).unwrap();
    *area.id()
}

fn host(prefix: &Prefix) -> Lock {
    Lock::exclusive(prefix, LockName::Host, Duration::ZERO, "test").unwrap()
}

#[test]
fn lists_containers_and_nothing_else() {
    let (_directory, prefix) = prefix();
    let mut ids = vec![linked(&prefix, "a"), linked(&prefix, "b")];
    ids.sort();
    for odd in [".staging-x", "lost+found", "{9e3f3a2c-0f5e-4f0b-8d8a-2b1d6a9c1e77}"] {
        std::fs::create_dir(prefix.private_dir().join(odd)).unwrap();
    }
    assert_eq!(list(&prefix).unwrap(), ids);
    assert_eq!(names(&prefix).unwrap().len(), 2);
}

#[test]
fn finds_by_name_by_uuid_and_by_a_start_that_fits_one() {
    let (_directory, prefix) = prefix();
    let web = linked(&prefix, "web");
    let web01 = linked(&prefix, "web01");
    let space = linked(&prefix, "my server");
    let nameless = *container(&prefix, "").id();
    for (words, id) in [
        ("web", web),
        ("web0", web01),
        ("my server", space),
        ("my", space),
        (&nameless.to_string(), nameless),
        (&nameless.braced(), nameless),
        (&web.to_string().to_uppercase(), web),
        (&nameless.to_string()[..23], nameless),
    ] {
        assert_eq!(find(&prefix, words).unwrap(), id, "{words}");
    }
    let error = find(&prefix, "we").unwrap_err();
    let FindError::Ambiguous { candidates, .. } = &error else { panic!("{error}") };
    assert_eq!(candidates.len(), 2);
    assert!(candidates.contains(&"web01".to_string()));
}

#[test]
fn finds_by_a_unique_start_of_a_name_that_was_edited_and_is_not_linked_yet() {
    let (_directory, prefix) = prefix();
    let id = linked(&prefix, "web01");
    let other = linked(&prefix, "db01");
    let area = Area::open(&prefix, &id).unwrap();
    area.store_conf(&crate::conf::Conf::parse(b"NAME=\"shop\"\n")).unwrap();
    assert_eq!(find(&prefix, "sho").unwrap(), id);
    let FindError::Unknown { did_you_mean, .. } = find(&prefix, "shpo").unwrap_err() else { panic!() };
    assert_eq!(did_you_mean.as_deref(), Some("shop"));
    // One whose configuration cannot be read is found by its link.
    put(&prefix.area_dir(&other).join("ve.conf"), b"NAME=\"db01\n");
    assert_eq!(find(&prefix, "db").unwrap(), other);
}

#[test]
fn all_that_claim_a_name_are_found_however_it_is_written() {
    let (_directory, prefix) = prefix();
    let name: ContainerName = "web01".parse().unwrap();
    let conf_of = |text: &[u8]| {
        let id = linked(&prefix, &format!("c{}", list(&prefix).unwrap().len()));
        put(&prefix.area_dir(&id).join("ve.conf"), text);
        id
    };
    let large = [b"# a comment\n".repeat(GLANCE / 8), b"NAME=web01\n".to_vec()].concat();
    let mut claim: Vec<ContainerId> = [
        &b"NAME=\"web01\"\n"[..],
        b"NAME=other\n  export NAME='we'\"b\"\\01 # it is\r\n",
        b"VEID=1\nNAME=web01",
        &large,
    ]
    .map(conf_of)
    .to_vec();
    // The last line counts, a comment does not, and what is damaged tells nothing.
    for text in
        [&b"NAME=web01\nNAME=db01\n"[..], b"# NAME=web01\n", b"HOSTNAME=web01\n", b"NAME=web01\nA=\"\n", b""]
    {
        conf_of(text);
    }
    claim.sort();
    assert_eq!(named(&prefix, &name).unwrap(), claim);
}

#[test]
fn suggests_what_was_probably_meant() {
    let (_directory, prefix) = prefix();
    linked(&prefix, "web01");
    linked(&prefix, "zz-db");
    for (words, meant) in [
        ("wbe01", Some("web01")),
        ("web02", Some("web01")),
        ("wweb01", Some("web01")),
        ("mail", None),
        ("xy", None),
        ("", None),
        ("../../etc/passwd", None),
        ("{}", None),
    ] {
        let error = find(&prefix, words).unwrap_err();
        let FindError::Unknown { did_you_mean, .. } = error else { panic!("{words}: {error}") };
        assert_eq!(did_you_mean.as_deref(), meant, "{words}");
    }
}

#[test]
fn a_name_belongs_to_one_container_until_that_is_gone() {
    let (_directory, prefix) = prefix();
    let first = linked(&prefix, "web01");
    let second = linked(&prefix, "web02");
    let name: ContainerName = "web01".parse().unwrap();
    let error = link_name(&prefix, &name, &second).unwrap_err();
    assert!(matches!(error, RegistryError::NameTaken { holder, .. } if holder == first), "{error}");
    // Again for its own: fine. By another: not removed.
    link_name(&prefix, &name, &first).unwrap();
    unlink_name(&prefix, &name, &second).unwrap();
    assert_eq!(find(&prefix, "web01").unwrap(), first);

    let link = std::fs::read_link(prefix.names_dir().join("web01")).unwrap();
    assert_eq!(link, prefix.area_dir(&first).join("ve.conf"));
    unlink_name(&prefix, &name, &first).unwrap();
    assert!(!prefix.names_dir().join("web01").is_symlink());

    // A link that dangles can be taken over.
    link_name(&prefix, &name, &ContainerId::random()).unwrap();
    link_name(&prefix, &name, &second).unwrap();
    assert_eq!(super::linked(&prefix, &name).unwrap(), Some(second));
    // But who has it as NAME is meant, whatever the link says.
    assert_eq!(find(&prefix, "web01").unwrap(), first);
}

#[test]
fn a_file_that_an_editor_left_in_the_links_place_is_never_lost() {
    let (_directory, prefix) = prefix();
    let id = *container(&prefix, "web01").id();
    let path = prefix.conf_dir().join(format!("{id}.conf"));
    put(&path, b"NAME=edited\n");
    assert!(matches!(link_conf(&prefix, &id), Err(RegistryError::NotALink { .. })));
    unlink_conf(&prefix, &id).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"NAME=edited\n");
}

#[test]
fn id_ranges_never_overlap_also_with_those_of_staged_containers() {
    let (_directory, prefix) = prefix();
    let host = host(&prefix);
    let mut ranges: Vec<IdRange> = Vec::new();
    for n in 0..4 {
        let range = allocate_id_range(&prefix, &host).unwrap();
        assert!(ranges.iter().all(|other| !other.overlaps(&range)));
        ranges.push(range);
        let staged = Area::stage(&prefix, &area::AreaRecord::new(ContainerId::random(), range)).unwrap();
        if n % 2 == 0 {
            staged.publish(&prefix).unwrap();
        }
    }
}

#[test]
fn a_container_whose_range_cannot_be_read_does_not_get_a_second_owner() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let own = area.record().unwrap().id_range;
    put(&area.path().join("area.json"), b"{");
    let range = allocate_id_range(&prefix, &host(&prefix)).unwrap();
    assert!(!range.overlaps(&own), "{range:?}");
}

/// A container with that `VEID`.
fn numbered_container(prefix: &Prefix, name: &str, number: &str) -> ContainerId {
    let id = linked(prefix, name);
    let area = Area::open(prefix, &id).unwrap();
    let conf = format!("NAME=\"{name}\"\nVEID=\"{number}\"\n");
    area.store_conf(&crate::conf::Conf::parse(conf.as_bytes())).unwrap();
    id
}

#[test]
fn finds_by_number_with_a_link_and_without() {
    let (_directory, prefix) = prefix();
    let shop = numbered_container(&prefix, "shop", "101");
    let long = numbered_container(&prefix, "1015", "1015");
    assert_eq!(find(&prefix, "101").unwrap(), shop);
    link_number(&prefix, "101".parse().unwrap(), &shop).unwrap();
    assert_eq!(find(&prefix, "101").unwrap(), shop);
    assert_eq!(find(&prefix, "1015").unwrap(), long);
    assert_eq!(find(&prefix, "shop").unwrap(), shop);
    // Neither the start of another's, nor of a UUID.
    for words in ["10", "1", "102", "0101"] {
        assert!(matches!(find(&prefix, words), Err(FindError::Unknown { .. })), "{words}");
    }
    // A link that lies.
    link_number(&prefix, "101".parse().unwrap(), &long).unwrap();
    assert_eq!(find(&prefix, "101").unwrap(), shop);
    unlink_numbers_of(&prefix, &long, Some("1015".parse().unwrap())).unwrap();
    assert!(std::fs::symlink_metadata(prefix.conf_dir().join("101.conf")).is_err());
}

#[test]
fn all_that_claim_a_number_are_found_and_a_link_says_whose_it_was() {
    let (_directory, prefix) = prefix();
    let mut claim = ["shop", "db"].map(|name| (numbered_container(&prefix, name, "101"), "VEID")).to_vec();
    claim.sort();
    numbered_container(&prefix, "other", "1010");
    assert_eq!(holders(&prefix, "101").unwrap(), claim);
    let FindError::Claimed { holders: told, .. } = find(&prefix, "101").unwrap_err() else { panic!() };
    assert_eq!(told, claim);
    link_number(&prefix, "101".parse().unwrap(), &claim[1].0).unwrap();
    assert_eq!(find(&prefix, "101").unwrap(), claim[1].0);
    claim.push((numbered_container(&prefix, "101", "102"), "NAME"));
    claim.sort();
    assert_eq!(holders(&prefix, "101").unwrap(), claim);
    assert_eq!(holders(&prefix, "shop").unwrap().len(), 1);
}

#[test]
fn a_number_link_never_takes_the_place_of_a_file() {
    let (_directory, prefix) = prefix();
    let id = numbered_container(&prefix, "shop", "101");
    put(&prefix.conf_dir().join("101.conf"), b"PHYSPAGES=\"1\"\n");
    let number = "101".parse().unwrap();
    assert!(matches!(link_number(&prefix, number, &id), Err(RegistryError::NotALink { .. })));
    unlink_numbers_of(&prefix, &id, None).unwrap();
    assert!(prefix.conf_dir().join("101.conf").is_file());
    assert_eq!(find(&prefix, "101").unwrap(), id);
}

#[test]
fn a_dangling_number_is_swept() {
    let (_directory, prefix) = prefix();
    let id = numbered_container(&prefix, "shop", "101");
    link_number(&prefix, "101".parse().unwrap(), &id).unwrap();
    let private = atomic::open_directory(&prefix.private_dir()).unwrap();
    crate::trash::discard(&prefix, private.as_fd(), id.to_string()).unwrap();
    assert_eq!(sweep_links(&prefix).unwrap(), 3);
    assert!(matches!(find(&prefix, "101"), Err(FindError::Unknown { .. })));
}
