//! What an image says is to be run: taken as process 1's work where the root has no init.

use std::path::{Path, PathBuf};

use ::archive::image::Configuration;
use store::Application;
use tree::{LayeredRoot, TreeError};

use super::Told;
use super::judge::Init;
use crate::template::RecipeError;

/// What asks a program to end that does not say what else does.
const USUAL: &str = "SIGTERM";
/// SIGKILL and SIGSTOP: no program hears them, so none can be passed on to it.
const UNHEARD: [i32; 2] = [9, 19];
/// Bytes of JSON. It is handed on in one packet; an entry point with its environment has some hundreds.
const LONGEST: usize = 32 * 1024;
/// Programs that a base image names to be used by hand, and that nobody misses who has started its init.
const SHELLS: [&str; 5] = ["sh", "bash", "ash", "dash", "zsh"];

/// How a source is meant to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// The program; at least one word.
    pub application: Application,
    /// What stops it, if that is said.
    pub stop_signal: Option<String>,
    /// It is run even where there is an init.
    pub is_chosen: bool,
}

impl EntryPoint {
    /// Of an image; `None`: it names no program.
    pub fn of(configuration: Configuration) -> Option<EntryPoint> {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let Configuration { env, entrypoint, cmd, user, working_dir, stop_signal } = configuration;
        let arguments: Vec<String> = entrypoint.into_iter().chain(cmd).flatten().collect();
        (!arguments.is_empty()).then(|| EntryPoint {
            application: Application {
                arguments,
                environment: env.unwrap_or_default(),
                user: said(user),
                directory: said(working_dir),
            },
            stop_signal: said(stop_signal),
            is_chosen: false,
        })
    }

    /// Process 1 of a container that runs it.
    ///
    /// # Errors
    /// When its program is not in the root, or there is too much of it.
    pub fn init(&self, root: &LayeredRoot, told: &mut Told<'_>) -> Result<Init, RecipeError> {
        let length = serde_json::to_vec(&self.application).map_or(usize::MAX, |text| text.len());
        if length > LONGEST {
            return Err(RecipeError::EntryPoint {
                because: format!(
                    "its entry point and environment take {length} bytes, and no more than {LONGEST} may be"
                ),
            });
        }
        let Some(path) = self.program(root)? else {
            return Err(RecipeError::EntryPoint {
                because: format!(
                    "it has no init, and no program `{}`, which it says is to be run",
                    self.shown()
                ),
            });
        };
        let stop_signal = match &self.stop_signal {
            None => USUAL,
            Some(name) if linux::signal_number(name).is_some_and(|number| !UNHEARD.contains(&number)) => name,
            Some(name) => {
                (told.note)(&format!(
                    "`{}` is no signal that a program could be stopped with: {USUAL} is used",
                    tree::escaped(name.as_bytes())
                ));
                USUAL
            }
        };
        Ok(Init { path, stop_signal: stop_signal.to_owned(), is_systemd: false })
    }

    /// Says that it is not run since there is an init, where somebody may have expected it.
    pub fn tell_unused(&self, init: &Init, told: &mut Told<'_>) {
        let first = self.application.arguments.first().map(String::as_str).unwrap_or_default();
        let name = first.rsplit('/').next().unwrap_or_default();
        if first != init.path && !SHELLS.contains(&name) {
            (told.note)(&format!(
                "it has an init, `{}`, which is started; `{}`, which it says is to be run, is only run with `--entry-point`",
                init.path,
                self.shown()
            ));
        }
    }

    /// The first word, for people.
    fn shown(&self) -> String {
        let first = self.application.arguments.first().map(String::as_str).unwrap_or_default();
        tree::escaped(first.as_bytes())
    }

    /// Where its program is, as execvp(3) looks for it in the container.
    fn program(&self, root: &LayeredRoot) -> Result<Option<String>, TreeError> {
        let Application { arguments, environment, directory, .. } = &self.application;
        let first = arguments.first().map(String::as_str).unwrap_or_default();
        let here = Path::new("/").join(directory.as_deref().unwrap_or("/"));
        let candidates: Vec<PathBuf> = if first.contains('/') {
            vec![here.join(first)]
        } else {
            // Of several the last counts, as everywhere.
            let path = environment.iter().rev().find_map(|one| one.strip_prefix("PATH="));
            let path = path.unwrap_or(runtime::spec::PATH);
            path.split(':').map(|directory| here.join(directory).join(first)).collect()
        };
        for candidate in candidates {
            if let Some(text) = candidate.to_str()
                && !first.is_empty()
                && !text.contains('\0')
                && root.has_executable(&candidate)?
            {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }
}
