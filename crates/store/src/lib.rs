//! What lies on disk: private areas, generations, templates, `ve.conf`, names, locks and the trash.
//!
//! The one idea: whoever reads sees either the old file or the new one, never half of one, and what a function of
//! this crate has returned `Ok` for survives a power cut. Everything is built unreachable, made durable, made
//! reachable with one `rename(2)`, and the directory is synced; what a death in between leaves behind is litter
//! with a name that tells what it is, and stands in a comment at that very line.
//!
//! This crate mounts nothing, runs nothing, prints nothing, and never looks inside a container's root: that is
//! the business of `runtime` and `tree`.

mod addresses;
mod application;
pub mod area;
pub mod atomic;
mod bind_mounts;
pub mod conf;
pub mod counted;
pub mod device_nodes;
pub mod disk_space;
pub mod disks;
pub mod environment;
pub mod features;
mod forwards;
pub mod generation;
pub mod id_range;
pub mod identity;
mod inner_path;
mod interfaces;
pub mod journal;
pub mod limits;
pub mod lock;
mod nearest;
mod numeric_id;
mod own_file;
pub mod prefix;
mod processor;
mod rate;
mod rebuild;
// For `fuzzing`: nobody else outside reads records but through what they are records of.
#[doc(hidden)]
pub mod record;
pub mod registry;
pub mod reserve;
#[doc(hidden)]
mod running_mark;
pub mod shell_word;
pub mod template;
pub mod trash;
pub mod volume;

pub use addresses::{Address, AddressError, KEY as ADDRESSES};
pub use application::Application;
pub use area::{Area, AreaError, AreaRecord};
pub use atomic::AtomicError;
pub use bind_mounts::{BindMount, BindMountError, KEY as BIND_MOUNTS};
pub use conf::{Conf, ConfError, Damage};
pub use device_nodes::{DeviceNode, DeviceNodeError};
pub use disk_space::DiskSpace;
pub use disks::{Disk, DiskNumber, Disks, DisksError};
pub use features::{FeatureError, Features};
pub use forwards::{Forward, ForwardError, KEY as FORWARDS, Transport};
pub use generation::{Base, GenerationRecord, GenerationState, Reason};
pub use id_range::IdRange;
pub use identity::{ContainerId, ContainerName, GenerationNumber, NameError, TemplateChoice, TemplateName};
pub use inner_path::{InnerPath, MountFlags};
pub use interfaces::{Interface, InterfaceError, InterfaceName, KEY as INTERFACES, Mac};
pub use journal::Journal;
pub use limits::{Limits, LimitsError, MEGAHERTZ, USUAL_IO_PRIORITY};
pub use lock::{Lock, LockError, LockName};
pub use nearest::nearest;
pub use numeric_id::{KEY as NUMERIC_ID, NumericId};
pub use own_file::{NAME as OWN_NAME, OwnFile};
pub use prefix::{Prefix, PrefixError, file_system_of};
pub use processor::megahertz;
pub use rate::{BOUND as RATE_BOUND, KEY as RATE, Rate, RateError};
pub use registry::{FindError, RegistryError};
pub use running_mark::unmark_running;
pub use template::{Staging, Template, TemplateError, TemplateOrigin, TemplateRecord};
pub use trash::TrashError;
pub use volume::Volume;
