//! What differs between a generation and its template: the delta and the template side by side, neither mounted for it.
//!
//! A look, so it takes no lock and waits for nobody: the container may run on that very generation, and what vanishes meanwhile was not
//! there. Only that the whole generation went away while it was looked at is an error.

use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use store::{Area, AreaError, Base, GenerationNumber, GenerationRecord, template};
use tree::{Difference, LayeredRoot, Root, TreeError};

use crate::conffiles::Conffiles;
use crate::error::{Code, Failure, Result, system};
use crate::host::{Host, damaged};

/// A generation beside its template.
#[derive(Debug)]
pub struct Comparison<'host> {
    host: &'host Host,
    area: &'host Area,
    /// What the container is called.
    name: String,
    /// Of the generation.
    pub record: GenerationRecord,
    handle: OwnedFd,
    delta: Root,
    template: Option<Root>,
    conffiles: OnceCell<Conffiles>,
}

/// Why a walk ended.
enum Ended {
    Tree(TreeError),
    Told(Failure),
}

impl From<TreeError> for Ended {
    fn from(error: TreeError) -> Ended {
        Ended::Tree(error)
    }
}

impl<'host> Comparison<'host> {
    /// Of generation `number` of the container `name`, without a lock.
    ///
    /// # Errors
    /// [`Code::BadValue`] when there is no such generation, [`Code::UnknownTemplate`] when its template is gone or damaged.
    pub fn open(
        host: &'host Host,
        area: &'host Area,
        name: &str,
        number: GenerationNumber,
    ) -> Result<Comparison<'host>> {
        let what = format!("cannot compare generation {number} of `{name}` with its template");
        let record = match area.generation(number) {
            Ok(record) => record,
            Err(AreaError::NoGeneration { .. }) => {
                return Err(Failure::new(Code::BadValue, what)
                    .because(format!("there is no generation {number}"))
                    .unchanged()
                    .hint(format!("`prlctl generation-list {name} --all` shows all roots")));
            }
            Err(error) => return Err(damaged(error, name)),
        };
        let rootfs = match &record.base {
            Base::Empty => None,
            Base::Template { name, digest } => {
                let template = template::exact(&host.prefix, name, digest)
                    .map_err(|error| Failure::from(error).within(what.clone()).unchanged())?;
                Some(template.rootfs())
            }
        };
        crate::volume::enter_unlocked(host, area, name)?;
        let open =
            |path: PathBuf| Root::open(&path).map_err(|error| system(what.clone(), &error).unchanged());
        Ok(Comparison {
            host,
            area,
            name: name.to_owned(),
            handle: area.generation_handle(number).map_err(|error| damaged(error, name))?,
            delta: open(area.layers_dir(number).join("delta"))?,
            template: rootfs.map(open).transpose()?,
            record,
            conffiles: OnceCell::new(),
        })
    }

    /// Visits everything at and below `below`, absolute in the container, that differs; see [`tree::differences`]. Without a template, that
    /// is all that there is.
    ///
    /// # Errors
    /// [`Code::BadValue`] when `below` is nowhere, or not to be gone to; what `visit` says.
    pub fn differences(
        &self,
        below: &Path,
        mut visit: impl FnMut(&Difference<'_>) -> Result<()>,
    ) -> Result<()> {
        let what =
            || format!("cannot tell what differs in generation {} of `{}`", self.record.number, self.name);
        let ended = tree::differences(&self.delta, self.template.as_ref(), below, |difference| {
            visit(difference).map_err(Ended::Told)
        });
        if !self.is_there() && !matches!(ended, Err(Ended::Told(_))) {
            return Err(Failure::new(Code::BadValue, what())
                .because("it was deleted while it was being looked at")
                .unchanged()
                .hint(format!("`prlctl generation-list {} --all` shows all roots", self.name)));
        }
        match ended {
            Ok(None) => Ok(()),
            Ok(Some(moved)) => {
                self.host.warning(&format!(
                    "`{}` was moved while it was being looked at: what else is there is not told; do it again",
                    tree::escaped_path(&moved)
                ));
                Ok(())
            }
            Err(Ended::Told(failure)) => Err(failure),
            Err(Ended::Tree(error)) => Err(self.refused(error, &what())),
        }
    }

    /// What is being deleted has been moved to the trash.
    fn is_there(&self) -> bool {
        let identity = |handle: &OwnedFd| rustix::fs::fstat(handle).map(|found| (found.st_dev, found.st_ino));
        let now = self.area.generation_handle(self.record.number);
        self.area.path().exists() && now.is_ok_and(|now| identity(&now) == identity(&self.handle))
    }

    fn refused(&self, error: TreeError, what: &str) -> Failure {
        let bad = |hint: String| Failure::new(Code::BadValue, what).caused_by(&error).unchanged().hint(hint);
        let all = format!(
            "`prlctl generation-diff {} {}` tells of all that differs",
            self.name, self.record.number
        );
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other one is no fault of what was typed")]
        match &error {
            TreeError::Missing { .. } | TreeError::BadPath { .. } => bad(all),
            TreeError::SymlinkOnTheWay { .. } => bad("write where it leads instead".to_owned()),
            _ => system(what.to_owned(), &error).unchanged(),
        }
    }

    /// Whether a package manager, of the template or of the root as it is now, holds that path to be configuration. Asked for the first
    /// time it reads their databases; that one cannot be read is a warning.
    pub fn is_conffile(&self, path: &Path) -> bool {
        self.conffiles.get_or_init(|| self.load_conffiles()).contains(path.as_os_str().as_bytes())
    }

    fn load_conffiles(&self) -> Conffiles {
        let mut conffiles = Conffiles::default();
        let mut add = |upper: &Root, lower: Option<&Root>| {
            let lower = lower.map(Root::try_clone).transpose()?;
            conffiles.add_of(&LayeredRoot::new(upper.try_clone()?, lower))
        };
        // What a package had that is purged now, and what one has that came.
        let roots = [
            self.template.as_ref().map(|template| (template, None)),
            Some((&self.delta, self.template.as_ref())),
        ];
        for (upper, lower) in roots.into_iter().flatten() {
            if let Err(error) = add(upper, lower) {
                self.host.warning(&format!(
                    "which files are configuration of packages is not known: {}",
                    runtime::monitor::describe(&error)
                ));
            }
        }
        conffiles
    }
}
