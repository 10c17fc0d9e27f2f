//! Recipes as somebody writes them, and as somebody mistypes them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn read(text: &str) -> Result<Recipe> {
    parse(Path::new("/etc/vz/templates.d/mine.toml"), text.as_bytes())
}

#[test]
fn what_is_shipped_can_be_read_and_is_called_as_a_template() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = Prefix::new(directory.path()).unwrap();
    let (names, strange) = names(&prefix);
    assert_eq!((names.len(), strange), (SHIPPED.len(), Vec::new()));
    for name in names {
        let found = find(&prefix, &name).unwrap().unwrap();
        assert_eq!(found.path, None, "{name}");
        if let Recipe::Mmdebstrap(recipe) = found.recipe {
            let (distribution, release) = name.as_str().split_once('-').unwrap();
            assert_eq!(
                (recipe.distribution.as_deref(), recipe.release.as_deref()),
                (Some(distribution), Some(release))
            );
        }
    }
}

#[test]
fn every_key_is_read() {
    let recipe = read(
        "kind = 'mmdebstrap'\nsuite = \"bookworm\"\ndistribution = \"debian\"\nrelease = \"12\"\n\
         mirrors = [\"http://a/debian\", \"deb [trusted=yes] http://b/debian bookworm main\"]\n\
         components = [\"main\", \"contrib\"]\nkeyring = \"/usr/share/keyrings/k.gpg\"\nvariant = \"important\"\n\
         packages = [\"vim\", \"nginx=1.2-3\", \"libc6:i386\"]\nbase-packages = [\"systemd-sysv\"]\n\
         proxy = \"http://proxy:3128\"\npre = \"mine.pre\"\npost = \"/root/post\"\n",
    );
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let wanted = Mmdebstrap {
        suite: "bookworm".into(),
        distribution: Some("debian".into()),
        release: Some("12".into()),
        mirrors: list(&["http://a/debian", "deb [trusted=yes] http://b/debian bookworm main"]),
        components: list(&["main", "contrib"]),
        keyring: Some("/usr/share/keyrings/k.gpg".into()),
        variant: Variant::Important,
        base_packages: list(&["systemd-sysv"]),
        packages: list(&["vim", "nginx=1.2-3", "libc6:i386"]),
        proxy: Some("http://proxy:3128".into()),
        pre: Some("mine.pre".into()),
        post: Some("/root/post".into()),
    };
    assert_eq!(recipe.unwrap(), Recipe::Mmdebstrap(wanted));
    assert_eq!(read("kind = \"busybox\"").unwrap(), Recipe::Busybox);
    let recipe = read(
        "kind = \"import\"\nfrom = \"/a.tar\"\nimage = \"a:1\"\ninit = \"/i\"\nstop-signal = \"SIGPWR\"\n",
    );
    let wanted = Wanted {
        init: Some("/i".into()),
        stop_signal: Some("SIGPWR".into()),
        image: Some("a:1".into()),
        ..Wanted::default()
    };
    assert_eq!(recipe.unwrap(), Recipe::Import(Import { from: "/a.tar".into(), wanted }));
    assert!(read("kind = \"import\"\nfrom = \"container:web01\"").is_ok());
    for (text, is_wanted) in [("true", true), ("false", false)] {
        let recipe = read(&format!("kind = \"import\"\nfrom = \"/a.tar\"\nentry-point = {text}\n"));
        let wanted = Wanted { entry_point: is_wanted, ..Wanted::default() };
        assert_eq!(recipe.unwrap(), Recipe::Import(Import { from: "/a.tar".into(), wanted }));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line_its_key_and_what_was_meant() {
    const START: &str = "kind = \"mmdebstrap\"\nsuite = \"bookworm\"\n";
    for (text, said) in [
        ("", "line 1, `kind`: it is missing; one of busybox, import, mmdebstrap"),
        ("kind = 3", "line 1, `kind`: it is a number; wanted is a text: kind = \"…\""),
        ("kind = \"mmdebstrp\"", "line 1, `kind`: there is no kind `mmdebstrp`; did you mean `mmdebstrap`?"),
        ("kind = \"rpm\"", "there is no kind `rpm`; there are: busybox, import, mmdebstrap"),
        ("kind = \"mmdebstrap\"", "line 1, `suite`: it is missing: the suite of the archive"),
        ("\nkind = \"import\"", "`from`: it is missing"),
        (
            "kind = \"busybox\"\n\nsuite = \"x\"",
            "line 3, `suite`: a recipe of kind `busybox` has no such key",
        ),
        ("{START}pakages = [\"vim\"]", "line 3, `pakages`: there is no such key; did you mean `packages`?"),
        ("{START}mirror = \"http://x/\"", "line 3, `mirror`: there is no such key; did you mean `mirrors`?"),
        (
            "{START}nonsense = 1",
            "line 3, `nonsense`: there is no such key; there are: base-packages, components",
        ),
        ("{START}[table]\nx = 1", "line 3, `table`: there is no such key"),
        (
            "{START}packages = \"vim\"",
            "line 3, `packages`: it is a text; wanted is a list of texts: packages = [\"…\"]",
        ),
        ("{START}packages = [\"vim\",\n 3]", "line 4, `packages`: a number is in it; wanted are texts"),
        ("{START}packages = [\"-o Evil\"]", "line 3, `packages`: `-o Evil`: it is no name of a package"),
        ("{START}packages = [\"a,b\"]", "it is no name of a package"),
        ("{START}packages = [\"\"]", "it is empty"),
        ("{START}packages.vim = true", "`packages`: it is a table"),
        ("{START}mirrors = [\"deb.debian.org\"]", "line 3, `mirrors`: `deb.debian.org`: wanted is a URL"),
        ("{START}mirrors = [\"--aptopt=x://\"]", "wanted is a URL"),
        ("{START}mirrors = [\"deb http://x/ y\\nbad\"]", "there is a control character in it"),
        ("{START}components = [\"main contrib\"]", "`components`: `main contrib`: wanted are letters"),
        ("{START}keyring = \"keys.gpg\"", "wanted is an absolute path"),
        (
            "{START}variant = \"minbas\"",
            "line 3, `variant`: there is no variant `minbas`; did you mean `minbase`?",
        ),
        ("{START}variant = \"custom\"", "there are: minbase, buildd, important, standard"),
        ("{START}proxy = \"proxy:3128\"", "wanted is a URL that begins with http://"),
        ("{START}post = \"../x\"", "wanted is an absolute path, or the name of a file beside the recipe"),
        ("{START}post = true", "`post`: it is true or false; wanted is a text"),
        ("{START}release = 12", "line 3, `release`: it is a number; wanted is a text"),
        ("{START}release = \"12\"\nrelease = \"13\"", "line 4: "),
        ("kind = \"mmdebstrap\"\nsuite = \"--help\"", "line 2, `suite`: `--help`: wanted are letters"),
        ("kind = \"mmdebstrap\"\nsuite = \"x", "line 2: "),
        ("kind = mmdebstrap", "line 1: "),
        (
            "kind = \"import\"\nfrom = \"a.tar\"",
            "line 2, `from`: `a.tar`: wanted is an absolute path, or container:NAME",
        ),
        (
            "kind = \"import\"\nfrom = \"/a\"\ninit = \"sbin/init\"",
            "line 3, `init`: `sbin/init`: an init is an absolute path",
        ),
        ("kind = \"import\"\nfrom = \"/a\"\nstop-signal = \"SIGNOT\"", "`SIGNOT`: that is no signal"),
        (
            "kind = \"import\"\nfrom = \"/a\"\nentry-point = \"yes\"",
            "line 3, `entry-point`: it is a text; wanted is true or false: entry-point = true",
        ),
        (
            "kind = \"import\"\nfrom = \"/a\"\ninit = \"/i\"\nentry-point = true",
            "line 4, `entry-point`: it is this or `init`",
        ),
        ("kind = \"import\"\nfrom = \"/a\"\n\"\\u001b[31m\" = 1", "`\\x1b[31m`: there is no such key"),
    ] {
        let text = text.replace("{START}", START);
        let failure = read(&text).unwrap_err();
        assert_eq!(failure.code, Code::BadValue);
        assert!(failure.what.contains("/etc/vz/templates.d/mine.toml"), "{failure}");
        assert!(failure.reason().contains(said), "{text:?}\nsaid {failure}\nwanted {said}");
        assert!(failure.state.is_some() && failure.hint.is_some(), "{failure}");
        assert!(!failure.to_string().contains('\u{1b}'), "{failure:?}");
    }
    let failure = parse(Path::new("/x.toml"), b"kind = \"busybox\"\n# \xff\n").unwrap_err();
    assert!(failure.reason().contains("line 2: it is not UTF-8"), "{failure}");
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let failure =
        read("pakages = []\nkind = \"mmdebstrap\"\nvariant = \"x\"\nsuite = 3\nproxy = \"y\"\n").unwrap_err();
    let lines: Vec<&str> = failure.because.iter().map(|said| said.split(',').next().unwrap()).collect();
    assert_eq!(lines, ["line 1", "line 3", "line 4", "line 5"], "{failure}");
}

struct Scene {
    directory: tempfile::TempDir,
    prefix: Prefix,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        std::fs::create_dir_all(prefix.templates_d()).unwrap();
        Scene { directory, prefix }
    }

    fn write(&self, file: &str, text: &str, mode: u32) {
        let path = self.prefix.templates_d().join(file);
        let mut made = std::fs::File::create(path).unwrap();
        made.write_all(text.as_bytes()).unwrap();
        made.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn find(&self, name: &str) -> Result<Option<Found>> {
        find(&self.prefix, &name.parse().unwrap())
    }
}

#[test]
fn a_file_counts_instead_of_what_is_built_in_and_is_in_no_other_ones_way() {
    let scene = Scene::new();
    scene.write("debian-12.toml", "kind = \"busybox\"\n", 0o644);
    scene.write("mine.toml", "kind = \"import\"\nfrom = \"/x\"\n", 0o600);
    scene.write("bad.toml", "kind = 1\n", 0o644);
    scene.write("open.toml", "kind = \"busybox\"\n", 0o666);
    scene.write("Odd Name.toml", "", 0o644);
    scene.write("mine.post", "", 0o644);
    assert_eq!(scene.find("debian-12").unwrap().unwrap().recipe, Recipe::Busybox);
    assert_eq!(scene.find("mine").unwrap().unwrap().recipe.kind(), "import");
    assert!(matches!(scene.find("debian-13").unwrap().unwrap().recipe, Recipe::Mmdebstrap(_)));
    assert!(scene.find("nonesuch").unwrap().is_none());
    assert!(scene.find("bad").is_err());
    assert!(scene.find("open").unwrap_err().reason().contains("others than its owner may write to it"));
    let (names, strange) = names(&scene.prefix);
    assert_eq!((names.len(), strange), (SHIPPED.len() + 3, vec!["Odd Name.toml".to_owned()]));
    assert!(scene.directory.path().exists());
}

#[test]
fn a_script_lies_beside_the_recipe_and_is_roots() {
    let scene = Scene::new();
    scene.write("mine.post", "echo hello\n", 0o644);
    scene.write("open.post", "", 0o666);
    scene.write("nul.post", "a\0b", 0o644);
    let script = |path: &str| script(&scene.prefix, "post", Path::new(path));
    assert_eq!(script("mine.post").unwrap(), "echo hello\n");
    for (path, because) in [
        ("open.post", "others than its owner"),
        ("nul.post", "is no text"),
        ("none.post", "there is no `"),
        ("/nonexistent/post", "there is no `/nonexistent/post`"),
    ] {
        let refused = script(path).unwrap_err();
        assert!(refused.reason().contains(because), "{refused}");
    }
}
