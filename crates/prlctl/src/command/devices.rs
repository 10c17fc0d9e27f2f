//! What `prlctl set` says of disks and bind mounts, understood.

use engine::attachments::{AttachmentChange, bad};
use engine::disks::{DeviceChange, image_named};
use engine::settings::size_in_bytes;
use engine::{Code, Failure, Result};
use store::MountFlags;

use crate::arguments::Devices;

/// As it was typed, understood.
///
/// # Errors
/// [`Code::BadValue`] for the first that cannot be used.
pub fn understood(add: &[String], devices: &Devices) -> Result<AttachmentChange> {
    let binds = AttachmentChange::read_binds(add, &devices.bindmount_del)?;
    Ok(AttachmentChange { device: device(devices)?, ..binds })
}

fn device(devices: &Devices) -> Result<Option<DeviceChange>> {
    let size = devices.size.as_deref().map(|text| {
        size_in_bytes(text)
            .ok_or_else(|| bad("--size", text, "MiB, or a number with K, M, G or T, from 32 MiB to 16 TiB"))
    });
    let size = size.transpose()?;
    let at = devices.mnt.as_deref().map(|text| text.parse().map_err(|wanted| bad("--mnt", text, wanted)));
    let at = at.transpose()?;
    let flags = devices
        .mnt_opts
        .as_deref()
        .map(|text| MountFlags::read(text, &[',']).map_err(|wanted| bad("--mnt-opts", text, wanted)));
    let flags = flags.transpose()?;
    let named = [
        ("--device-set", &devices.device_set),
        ("--device-connect", &devices.device_connect),
        ("--device-disconnect", &devices.device_disconnect),
        ("--device-del", &devices.device_del),
    ];
    for (option, which) in named {
        if let Some(which) = which.as_deref().filter(|which| which.starts_with("net")) {
            return Err(bad(
                option,
                which,
                "a disk, and it has no disk of that name: interfaces are `--ifname` and `--netif_del`",
            ));
        }
    }
    if let Some(kind) = &devices.device_add {
        if kind != "hdd" {
            let wanted = "hdd, a disk: addresses are `--ipadd`, interfaces `--netif_add`, devices of the host `--devnodes`";
            return Err(bad("--device-add", kind, wanted));
        }
        let at = at.ok_or_else(|| missing("--device-add hdd", "--mnt PATH"))?;
        let image = devices.image.as_deref().map(image_named).transpose()?;
        return Ok(Some(DeviceChange::Add { size, at, flags: flags.unwrap_or_default(), image }));
    }
    if let Some(which) = &devices.device_set {
        let is_enabled = (devices.enable || devices.disable).then_some(devices.enable);
        if size.is_none() && at.is_none() && flags.is_none() && is_enabled.is_none() {
            return Err(missing("--device-set", "--size, --mnt, --mnt-opts, --enable or --disable"));
        }
        return Ok(Some(DeviceChange::Set { which: which.clone(), size, at, flags, is_enabled }));
    }
    for (which, is_enabled) in [(&devices.device_connect, true), (&devices.device_disconnect, false)] {
        if let Some(which) = which {
            let which = which.clone();
            let is_enabled = Some(is_enabled);
            return Ok(Some(DeviceChange::Set { which, size: None, at: None, flags: None, is_enabled }));
        }
    }
    let Some(which) = &devices.device_del else { return Ok(None) };
    if size.is_some() || at.is_some() || flags.is_some() {
        return Err(Failure::new(Code::BadOption, "`--device-del` takes none of these")
            .because("--size, --mnt and --mnt-opts are of disks that it has")
            .unchanged()
            .hint("leave them out"));
    }
    Ok(Some(DeviceChange::Remove { which: which.clone(), is_destroyed: devices.destroy_image }))
}

fn missing(option: &str, beside: &str) -> Failure {
    Failure::new(Code::BadOption, format!("`{option}` does not say enough"))
        .because(format!("it wants {beside} beside it"))
        .unchanged()
        .hint("`prlctl set NAME --device-add hdd --size 10G --mnt /data`, `--device-set hdd1 --size 20G`")
}
