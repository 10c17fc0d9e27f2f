//! Of `vzpkg`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Common;

/// See [`super::Vzpkg`].
#[derive(Debug, Subcommand)]
pub enum VzpkgCommand {
    /// Make a template
    #[command(
        after_help = "/etc/vz/templates.d/NAME.toml says how NAME is made; `vzpkg list --recipes` lists all there are. Its keys are\n  \
        kind              mmdebstrap, import or busybox\n  \
        suite             of the archive; the only one besides that mmdebstrap must have\n  \
        mirrors           URLs, or lines of a sources.list\n  \
        components, keyring, variant, proxy\n  \
        packages          besides those of every template\n  \
        base-packages     instead of those\n  \
        pre, post         scripts that are run inside the new root, before and after\n  \
        distribution, release   what it has to be in the end\n  \
        from, image, init, stop-signal, entry-point   of import: as the options\n\n\
        Examples:\n  vzpkg create cache debian-12\n  vzpkg create cache centos-7-x86_64 --from /root/centos-7-x86_64.tar.gz\n  vzpkg create cache golden --from container:web01"
    )]
    Create(CreateTemplate),
    /// Install packages in a container, and at every reinstall of it
    #[command(
        after_help = "The container runs, and its own package manager does it: apt, apk, dnf, yum or zypper. What was installed is named by TEMPLATES of its ve.conf, and a reinstall installs it in the new root; without packages, that is what is installed. Exit code 70 when the package manager fails; TEMPLATES stays as it was.\n\nExamples:\n  vzpkg install web01 nginx php-fpm\n  vzpkg install web01"
    )]
    Install(InstallPackages),
    /// Make a new version of a template, of what it was made of; or update the packages of a container
    #[command(
        after_help = "Containers keep the version of a template that they are on; the next reinstall takes the new one. Of a container, without packages, all that is installed is updated.\n\nExamples:\n  vzpkg update cache debian-12\n  vzpkg update cache golden --from /srv/roots/golden\n  vzpkg update web01\n  vzpkg update web01 nginx"
    )]
    Update(UpdateTemplate),
    /// List the templates of this host, or what was installed in a container
    #[command(
        after_help = "Examples:\n  vzpkg list\n  vzpkg list -j\n  vzpkg list --recipes\n  vzpkg list web01"
    )]
    List(ListTemplates),
    /// Look whether templates are what they were when they were made
    #[command(
        after_help = "Every file is read. Exit code 85 when anything is not as it was; what, is named.\n\nExamples:\n  vzpkg verify\n  vzpkg verify debian-12 -j"
    )]
    Verify(VerifyTemplates),
    /// Remove old versions of templates that no root is made from
    #[command(
        after_help = "The latest version of each template stays. What commands have left that were killed while they made one goes, too.\n\nExample:\n  vzpkg gc"
    )]
    Gc(CollectTemplates),
    /// Remove a template, or one version of it; or packages from a container
    #[command(
        after_help = "A template: refused while a root is made from it, which is named. Where a version was the latest, the newest of the others is it then. Packages are taken out of TEMPLATES, too; one that is not installed is no mistake.\n\nExamples:\n  vzpkg remove cache busybox\n  vzpkg remove cache debian-12@5b1c9f0e3a12\n  vzpkg remove web01 php-fpm"
    )]
    Remove(RemoveTemplate),
}

/// `vzpkg create cache`
#[derive(Debug, Args)]
pub struct CreateTemplate {
    /// The word `cache`
    #[arg(value_parser = ["cache"])]
    pub cache: String,
    /// debian-11, debian-12, debian-13, ubuntu-22.04, ubuntu-24.04, busybox, or a recipe of yours; with --from any name
    pub name: String,
    /// What it is made of, instead of by a recipe
    #[command(flatten)]
    pub source: SourceOptions,
    /// A directory with a finished root of that distribution; it is moved or copied
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "from")]
    pub built_root: Option<PathBuf>,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `vzpkg install`
#[derive(Debug, Args)]
pub struct InstallPackages {
    /// The container
    pub container: String,
    /// The packages; without any, those that TEMPLATES names
    #[arg(value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// Seconds for the package manager
    #[arg(long, value_name = "SECONDS", default_value_t = PACKAGES_TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// Some distributions' updates take as long, on a slow line.
const PACKAGES_TIMEOUT: u64 = 3600;

/// `vzpkg update cache`, and `vzpkg update CONTAINER`
#[derive(Debug, Args)]
pub struct UpdateTemplate {
    /// The word `cache`, or a container (one that is called `cache`: by its UUID)
    #[arg(value_name = "cache|CONTAINER")]
    pub of: String,
    /// The template, or packages of the container
    #[arg(value_name = "NAME|PACKAGE")]
    pub names: Vec<String>,
    /// Seconds for the package manager of a container
    #[arg(long, value_name = "SECONDS", default_value_t = PACKAGES_TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// What it is made of from now on, instead of what it was made of
    #[command(flatten)]
    pub source: SourceOptions,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// A source that is not a recipe.
#[derive(Debug, Args)]
pub struct SourceOptions {
    /// A root that others have made: a tar archive (also .gz, .xz, .zst), a directory, an OCI image (layout or
    /// archive), what docker save has written, or container:NAME
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<PathBuf>,
    /// Which image, where SOURCE has several: a name with tag, or a digest
    #[arg(long, value_name = "IMAGE", requires = "from")]
    pub image: Option<String>,
    /// What is started in a container, instead of the init that is found
    #[arg(long, value_name = "PATH", requires = "from", value_parser = init)]
    pub init: Option<String>,
    /// Run what an image says is to be run, though it has an init
    #[arg(long, requires = "from", conflicts_with = "init")]
    pub entry_point: bool,
    /// What asks it to stop, instead of what is known of it: SIGTERM and the like
    #[arg(long, value_name = "SIGNAL", requires = "from", value_parser = stop_signal)]
    pub stop_signal: Option<String>,
}

fn init(text: &str) -> Result<String, &'static str> {
    engine::template::check_init(text).map(|()| text.to_owned())
}

fn stop_signal(text: &str) -> Result<String, &'static str> {
    engine::template::check_signal(text).map(|()| text.to_owned())
}

/// `vzpkg list`
#[derive(Debug, Args)]
pub struct ListTemplates {
    /// What was installed in this container, instead: TEMPLATES of its ve.conf
    #[arg(conflicts_with = "recipes")]
    pub container: Option<String>,
    /// What templates can be made of, instead: the recipes in /etc/vz/templates.d, and those that are built in
    #[arg(long)]
    pub recipes: bool,
    /// No header
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `vzpkg verify`
#[derive(Debug, Args)]
pub struct VerifyTemplates {
    /// The templates, or versions of them, NAME@VERSION; without any, all
    pub names: Vec<String>,
    /// As JSON
    #[arg(short = 'j', long)]
    pub json: bool,
}

/// `vzpkg gc`
#[derive(Debug, Args)]
pub struct CollectTemplates {
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}

/// `vzpkg remove cache`, and `vzpkg remove CONTAINER`
#[derive(Debug, Args)]
pub struct RemoveTemplate {
    /// The word `cache`, or a container (one that is called `cache`: by its UUID)
    #[arg(value_name = "cache|CONTAINER")]
    pub of: String,
    /// The template, all versions of it, or NAME@VERSION; or packages of the container
    #[arg(value_name = "NAME|PACKAGE", required = true)]
    pub names: Vec<String>,
    /// Seconds for the package manager of a container
    #[arg(long, value_name = "SECONDS", default_value_t = PACKAGES_TIMEOUT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Options of every command
    #[command(flatten)]
    pub common: Common,
}
