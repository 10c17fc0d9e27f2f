//! What the runtime's errors are to the engine.

use runtime::exec::ExecError;
use runtime::monitor::MonitorError;
use runtime::mounts::MountError;
use runtime::volume::VolumeError;

use crate::runtime::{RuntimeError, RuntimeErrorKind};

/// In one line, with what caused it.
pub fn other(error: &dyn std::error::Error) -> RuntimeError {
    because(runtime::monitor::describe(error))
}

/// Of words.
pub fn because(because: String) -> RuntimeError {
    RuntimeError { because, console: String::new(), kind: RuntimeErrorKind::Other }
}

/// Of a mount.
pub fn mount_error(error: &MountError) -> RuntimeError {
    let kind = match error {
        MountError::Busy { .. } => RuntimeErrorKind::Busy,
        MountError::FileSystem { .. } => RuntimeErrorKind::FileSystem,
        MountError::Call { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            RuntimeErrorKind::NoSpace
        }
        MountError::Call { .. } => RuntimeErrorKind::Other,
    };
    RuntimeError { kind, ..other(error) }
}

/// Of a container's own filesystem.
pub fn volume_error(error: VolumeError) -> RuntimeError {
    match error {
        VolumeError::Mount(error) => mount_error(&error),
        VolumeError::Call { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            RuntimeError { kind: RuntimeErrorKind::NoSpace, ..other(&error) }
        }
        VolumeError::TooSmall { .. } => RuntimeError { kind: RuntimeErrorKind::NoSpace, ..other(&error) },
        VolumeError::NoLoopDevice { .. } => {
            RuntimeError { kind: RuntimeErrorKind::NoDevice, ..other(&error) }
        }
        VolumeError::NoTool { .. }
        | VolumeError::Tool { .. }
        | VolumeError::Damaged { .. }
        | VolumeError::Call { .. } => other(&error),
    }
}

/// Of a conversation with a monitor; the console is what the container said last.
pub fn monitor_error(error: MonitorError) -> RuntimeError {
    let because = runtime::monitor::describe(&error);
    let kind = match error {
        MonitorError::Interrupted => RuntimeErrorKind::Interrupted,
        MonitorError::NotUp { .. } => RuntimeErrorKind::NotUp,
        MonitorError::NotStarted { is_action: true, .. } => RuntimeErrorKind::Action,
        MonitorError::NotStarted { .. }
        | MonitorError::Ended { .. }
        | MonitorError::Refused { .. }
        | MonitorError::OtherVersion { .. }
        | MonitorError::Lost { .. }
        | MonitorError::Leaving { .. }
        | MonitorError::Cgroup(_) => RuntimeErrorKind::Other,
    };
    let mut console = String::new();
    if let MonitorError::NotStarted { console: said, .. } | MonitorError::Ended { console: said, .. } = error
    {
        console = said;
    }
    RuntimeError { because, console, kind }
}

/// Of a wait that a signal may end.
pub fn wait_error(error: &std::io::Error) -> RuntimeError {
    if error.kind() == std::io::ErrorKind::Interrupted {
        return monitor_error(MonitorError::Interrupted);
    }
    other(error)
}

/// Of a program that was to run inside.
pub fn exec_error(error: &ExecError) -> RuntimeError {
    let kind = match error {
        ExecError::NotRunning => RuntimeErrorKind::NotRunning,
        ExecError::NotExecuted { .. } => RuntimeErrorKind::NotUp,
        ExecError::NotJoined { .. } | ExecError::Stuck { .. } | ExecError::Cgroup(_) | ExecError::Io(_) => {
            RuntimeErrorKind::Other
        }
    };
    RuntimeError { kind, ..other(error) }
}
