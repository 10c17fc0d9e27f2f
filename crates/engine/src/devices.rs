//! `FEATURES` and `DEVNODES`: what a container may have that others have not, and devices of the host.
//!
//! What was said by hand and cannot be had is refused. What stands in `ve.conf` and cannot be had now, a disk that is unplugged, is told at the start.

use runtime::devices::Device;
use store::{Conf, DeviceNode, FeatureError, Features, device_nodes, features};

use crate::error::{Code, Failure, Result};
use crate::settings::Change;

/// What a start gives beside what every container has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Its devices.
    pub devices: Vec<Device>,
    /// Containers run in it.
    pub nests: bool,
    /// What of it cannot be had.
    pub warnings: Vec<String>,
}

impl Extras {
    /// Those of a configuration.
    ///
    /// # Errors
    /// In one line, what of it cannot be.
    pub fn of(conf: &Conf) -> std::result::Result<Extras, String> {
        let nodes = DeviceNode::all(conf).map_err(|error| format!("`{}`: {error}", device_nodes::KEY))?;
        let features = Features::of(conf);
        let mut extras = Extras { nests: features.nesting, ..Extras::default() };
        for name in of_features(&features) {
            match Device::of_feature(name) {
                Ok(device) => extras.devices.push(device),
                Err(error) => extras.warnings.push(format!("`{}` is not obeyed: {error}", features::KEY)),
            }
        }
        for node in nodes {
            // A feature's is everybody's, and has the same rights at least.
            if extras.devices.iter().any(|device| device.name == node.name) {
                continue;
            }
            match Device::of_host(&node) {
                Ok(device) => extras.devices.push(device),
                Err(error) => extras.warnings.push(format!("`{}` is not obeyed: {error}", device_nodes::KEY)),
            }
        }
        Ok(extras)
    }
}

fn of_features(features: &Features) -> Vec<&'static str> {
    let Features { nesting, fuse, tun, ppp, ignored: _ } = features;
    let all = [("fuse", *fuse || *nesting), ("net/tun", *tun), ("ppp", *ppp)];
    all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect()
}

/// What `ve.conf` says once a change is made: of these keys it is added to what was there.
///
/// # Errors
/// [`Code::BadValue`], [`Code::Unsupported`].
pub fn merged(conf: &Conf, change: &Change) -> Result<String> {
    let before = conf.get(change.key).unwrap_or_default();
    if change.key == features::KEY {
        return Features::merge(&before, &change.value).map_err(|error| refused(change, &error));
    }
    if change.key == device_nodes::KEY {
        return DeviceNode::merge(&before, &change.value).map(|all| DeviceNode::write(&all)).map_err(
            |error| {
                Failure::new(Code::BadValue, format!("`{}` cannot be used", change.option))
                    .caused_by(&error)
                    .unchanged()
            },
        );
    }
    Ok(change.value.clone())
}

/// What was typed is there on this host.
///
/// # Errors
/// [`Code::Unsupported`].
pub fn check(changes: &[Change]) -> Result<()> {
    for change in changes {
        let mut typed = Conf::default();
        if change.key != features::KEY && change.key != device_nodes::KEY {
            continue;
        }
        typed.set(change.key, &change.value)?;
        let extras = Extras::of(&typed).unwrap_or_default();
        if let Some(because) = extras.warnings.into_iter().next() {
            return Err(Failure::new(Code::Unsupported, format!("`{}` cannot be had", change.option))
                .because(because)
                .unchanged()
                .hint("`modprobe` may bring what is a module: fuse, tun, ppp_generic"));
        }
    }
    Ok(())
}

fn refused(change: &Change, error: &FeatureError) -> Failure {
    let shown = |word: &str| tree::escaped(&word.as_bytes()[..word.len().min(200)]);
    match error {
        FeatureError::Unknown(word) => {
            Failure::new(Code::BadValue, format!("`{} {}` cannot be used", change.option, shown(word)))
                .because(format!("wanted {}", features::WANTED))
        }
        FeatureError::Impossible(word, why) => {
            Failure::new(Code::Unsupported, format!("`{} {}` cannot be had", change.option, shown(word)))
                .because(*why)
        }
    }
    .unchanged()
}

/// Keys that a container that runs has from its next start on.
pub fn waits(changes: &[Change]) -> Option<String> {
    let keys = [features::KEY, device_nodes::KEY];
    let change = changes.iter().find(|change| keys.contains(&change.key))?;
    Some(format!("`{}` holds from its next start on: `prlctl restart`", change.key))
}
