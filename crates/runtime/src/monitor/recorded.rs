//! What monitors of every version have said, heard and written: `recorded/<version>/<name>.json`, never changed once a version was released. A program
//! that reads them no more, or writes other bytes for the version that it says it speaks, would lose the containers that run while it is installed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{
    Address, Application, ContainerId, Forward, GenerationNumber, IdRange, Interface, Limits, Prefix, Rate,
    Transport,
};

use super::place::listen;
use super::protocol::{Channel, End, Event, Launch, Request, VERSION, deadline};
use super::serve::SOCKET;
use super::session::{MonitorError, Session, record_of};
use super::settings::Settings;
use crate::actions::{Action, ActionScript};
use crate::attachments::Attached;
use crate::devices::Device;
use crate::state::{self, ProcessIdentity, RuntimeState};

const ID: &str = "0c9e5a0e-4f3c-4d2a-9d6b-3f0a5b1c7e42";
const PATIENCE: Duration = Duration::from_secs(30);

fn directory(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/monitor/recorded").join(version.to_string())
}

fn bytes(version: u32, name: &str) -> Vec<u8> {
    let path = directory(version).join(format!("{name}.json"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.trim_ascii_end().to_vec()
}

fn id() -> ContainerId {
    ID.parse().unwrap()
}

fn limits() -> Limits {
    Limits {
        memory: Some(1 << 30),
        swap: Some(0),
        memory_guarantee: Some(1 << 20),
        cpus: Some(150),
        cpu_units: Some(1000),
        processes: Some(800),
        cpu_mask: Some("0-3,8".into()),
        node_mask: None,
        io_priority: Some(4),
        io_bytes: Some(10 << 20),
        io_operations: Some(100),
    }
}

fn addresses() -> Vec<Address> {
    vec![
        Address { ip: "192.0.2.50".parse().unwrap(), prefix: 32 },
        Address { ip: "2001:db8::50".parse().unwrap(), prefix: 64 },
    ]
}

fn interfaces() -> Vec<Interface> {
    let text = "ifname=eth0,mac=02:00:00:00:00:01,host_mac=fe:00:00:00:00:01,host_ifname=veth101.0,network=br0,vlan=5,\
                ip=192.0.2.5/24:[2001:db8::5]/64,gw=192.0.2.1,gw6=fe80::1,dhcp=yes,configure=none;ifname=eth1,mac_filter=off,ip_filter=off";
    Interface::read(text).unwrap()
}

fn settings() -> Settings {
    Settings {
        limits: limits(),
        hostname: "web01".into(),
        addresses: addresses(),
        translates: true,
        forwards: vec![Forward { transport: Transport::Tcp, port: 8080, to: 80 }],
        interfaces: interfaces(),
        rate: Some(Rate { kilobits: 1000 }),
        restarts_on_crash: true,
        resolver: Some("nameserver 192.0.2.1\n".into()),
        leaves_network_files: true,
        forbids_reboot: true,
        environment: vec!["LANG=C".into()],
        keeps_no_access_times: true,
    }
}

fn attached() -> Attached {
    Attached { name: "hdd1".into(), at: "/data".parse().unwrap(), is_file: false }
}

fn launch() -> Launch {
    Launch {
        prefix: "/".into(),
        id: id(),
        generation: GenerationNumber::new(41),
        ids: IdRange { first: 1_879_048_192, count: 65_536 },
        settings: settings(),
        probation_network: net::Probation::Outgoing,
        init: "/sbin/init".into(),
        stop_signal: 37,
        is_systemd: true,
        application: Some(Application {
            arguments: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
            environment: vec!["LANG=C".into()],
            user: Some("www-data".into()),
            directory: Some("/srv".into()),
        }),
        is_probation: true,
        actions: vec![ActionScript { action: Action::Mount, name: "vps.mount".into() }],
        action_limit: 120,
        veid: Some("101".into()),
        attachments: vec![attached()],
        devices: vec![Device {
            name: "net/tun".into(),
            is_block: false,
            major: 10,
            minor: 200,
            reads: true,
            writes: true,
            is_everybodys: true,
        }],
        nests: true,
    }
}

fn runtime_state() -> RuntimeState {
    RuntimeState {
        format: 1,
        boot_id: "b7f1c1de-6a53-4b0f-8c0d-0a6f4f2f3c11".into(),
        prefix: "/".into(),
        generation: GenerationNumber::new(41),
        ids: IdRange { first: 1_879_048_192, count: 65_536 },
        init: ProcessIdentity { pid: 4711, start_time: 123_456 },
        monitor: ProcessIdentity { pid: 4700, start_time: 123_450 },
        stop_signal: 37,
        is_systemd: true,
        is_application: false,
        nests: true,
        protocol: 3,
        actions_limit: 240,
        started: "2026-11-28T02:40:34.123456789Z".parse().unwrap(),
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Settled,
        Request::Stop { limit: 120_000, keeps_mounts: true, scripts: Some(240_000) },
        Request::Change(settings().said()),
        Request::Old,
        Request::Attach(attached()),
        Request::Detach("/data".parse().unwrap()),
        Request::Watch,
        Request::IsStopping,
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let ended =
        |how| Event::Ended { how, console: "bye".into(), warnings: vec!["`umount` exited with 1".into()] };
    vec![
        ("started", Event::Started { warnings: vec!["no /old".into()] }),
        ("failed", Event::Failed { because: "no init".into(), console: "what".into(), is_action: true }),
        ("said", Event::Said { script: "vps.mount".into(), line: b"one \xff".to_vec() }),
        ("up", Event::Up),
        ("done", Event::Done { warnings: vec!["no /old".into()] }),
        ("refused", Event::Refused { because: "busy".into() }),
        ("restarted", Event::Restarted),
        ("ended-halted", ended(End::Halted)),
        ("ended-rebooted", ended(End::Rebooted)),
        ("ended-exited", ended(End::Exited(3))),
        ("ended-finished", ended(End::Finished(1))),
        ("ended-killed", ended(End::Killed(9))),
    ]
}

/// Without a wildcard: whoever adds one is sent here, and to [`requests`].
fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Settled => "settled",
        Request::Stop { .. } => "stop",
        Request::Change(_) => "change",
        Request::Old => "old",
        Request::Attach(_) => "attach",
        Request::Detach(_) => "detach",
        Request::Watch => "watch",
        Request::IsStopping => "is-stopping",
    }
}

fn is_among_the_events(event: &Event) -> bool {
    match event {
        Event::Started { .. }
        | Event::Failed { .. }
        | Event::Said { .. }
        | Event::Up
        | Event::Done { .. }
        | Event::Refused { .. }
        | Event::Restarted
        | Event::Ended {
            how: End::Halted | End::Rebooted | End::Exited(_) | End::Finished(_) | End::Killed(_),
            ..
        } => true,
    }
}

/// All that this version says and writes, as bytes.
fn all() -> BTreeMap<String, Vec<u8>> {
    fn json(what: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(what).unwrap()
    }
    let mut all = BTreeMap::new();
    for request in requests() {
        all.insert(format!("request-{}", name_of(&request)), json(&request));
    }
    for (name, event) in events() {
        assert!(is_among_the_events(&event));
        all.insert(format!("event-{name}"), json(&event));
    }
    all.insert("launch".into(), json(&launch()));
    all.insert("state".into(), serde_json::to_vec_pretty(&runtime_state()).unwrap());
    all
}

/// What bytes mean to this version, as it would write that itself.
fn understood(name: &str, bytes: &[u8]) -> Value {
    fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Value {
        serde_json::to_value(serde_json::from_slice::<T>(bytes).unwrap()).unwrap()
    }
    match name.split_once('-') {
        // What it comes to for a monitor that had nothing before.
        Some(("request", "change")) => {
            let mut settings = Settings::default();
            let Request::Change(said) = serde_json::from_slice(bytes).unwrap() else {
                panic!("`{name}` is no change")
            };
            settings.take_over(said).unwrap();
            serde_json::json!({ "Change": settings })
        }
        Some(("request", _)) => read::<Request>(bytes),
        Some(("event", _)) => read::<Event>(bytes),
        _ if name == "launch" => read::<Launch>(bytes),
        _ => read::<RuntimeState>(bytes),
    }
}

fn recorded(version: u32) -> Vec<String> {
    let entries = std::fs::read_dir(directory(version)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.map(|name| name.trim_end_matches(".json").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_this_version_says_is_what_was_recorded_of_it() {
    let all = all();
    assert_eq!(recorded(VERSION), all.keys().cloned().collect::<Vec<_>>());
    for (name, said) in all {
        let (said, was) =
            (String::from_utf8(said).unwrap(), String::from_utf8(bytes(VERSION, &name)).unwrap());
        assert_eq!(
            said, was,
            "`{name}` has become another: a new version of the protocol, with a directory of its own"
        );
    }
}

#[test]
fn what_every_earlier_version_has_said_is_understood() {
    let all = all();
    for version in 1..=VERSION {
        let names = recorded(version);
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            let was = bytes(version, &name);
            let meant = understood(&name, &was);
            let now: Value = serde_json::from_slice(&all[&name]).unwrap();
            let mut expected = now.clone();
            if version < VERSION {
                // What that version did not have is as it was then: nobody had asked for it.
                without_what_came_later(&mut expected, version);
                if name == "request-change" && version == 1 {
                    expected["Change"]["resolver"] = Value::Null;
                }
            }
            assert_eq!(meant, expected, "{name} of version {version}");
            // And what is said to one that runs has all that it looks for.
            let was: Value = serde_json::from_slice(&was).unwrap();
            assert!(has_all_of(&now, &was), "{name} of version {version}");
        }
    }
}

/// What a version did not have is as it was then: of each field since which version it is there, and what it was before.
fn without_what_came_later(value: &mut Value, version: u32) {
    let later: [(&str, u32, Value); 13] = [
        ("nests", 2, false.into()),
        ("forwards", 2, Value::Array(Vec::new())),
        ("interfaces", 2, Value::Array(Vec::new())),
        ("rate", 2, Value::Null),
        ("leaves_network_files", 2, false.into()),
        ("actions", 2, Value::Array(Vec::new())),
        ("action_limit", 2, 0.into()),
        ("restarts_on_crash", 2, false.into()),
        ("is_action", 2, false.into()),
        ("actions_limit", 2, 0.into()),
        ("warnings", 2, Value::Array(Vec::new())),
        ("forbids_reboot", 3, false.into()),
        ("keeps_no_access_times", 3, false.into()),
    ];
    // What is not there where there is none.
    let left_out = [("veid", 2), ("attachments", 2), ("devices", 2), ("scripts", 2)];
    let Value::Object(fields) = value else { return };
    for (name, since) in left_out {
        if version < since {
            fields.remove(name);
        }
    }
    let is_end = fields.contains_key("how");
    // Of an application there has been one from the first.
    if version < 3 && fields.contains_key("hostname") {
        fields.insert("environment".to_owned(), Value::Array(Vec::new()));
    }
    for (name, since, then) in later {
        // Other events have had warnings from the first.
        if version >= since || name == "warnings" && !is_end {
            continue;
        }
        if let Some(field) = fields.get_mut(name) {
            *field = then;
        }
    }
    if let Some(speaks) = fields.get_mut("protocol") {
        *speaks = version.into();
    }
    fields.values_mut().for_each(|field| without_what_came_later(field, version));
}

/// Every field of `was` is one of `now`, with the same value but for the version that it speaks.
fn has_all_of(now: &Value, was: &Value) -> bool {
    match (now, was) {
        (Value::Object(now), Value::Object(was)) => {
            let has =
                |name: &str, was| now.get(name).is_some_and(|now| name == "protocol" || has_all_of(now, was));
            was.iter().all(|(name, was)| has(name, was))
        }
        (now, was) => now == was,
    }
}

/// A monitor of an earlier version: it hears what is said to it, and says what was recorded.
struct Monitor {
    _directory: tempfile::TempDir,
    prefix: Prefix,
    listener: OwnedFd,
}

impl Monitor {
    /// Of which version its `state.json` is; `speaks`: what that says instead, if anything.
    fn new(version: u32, speaks: Option<u32>) -> Monitor {
        let directory = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(directory.path()).unwrap();
        let run = prefix.run_dir_of(&id());
        std::fs::create_dir_all(&run).unwrap();
        let mut record: Value = serde_json::from_slice(&bytes(version, "state")).unwrap();
        // Of this boot, this host, and alive.
        let own = ProcessIdentity::of(std::process::id() as i32).unwrap();
        record["boot_id"] = crate::kernel::boot_id().into();
        record["prefix"] = prefix.root().to_str().unwrap().into();
        record["init"] = serde_json::to_value(own).unwrap();
        record["monitor"] = serde_json::to_value(own).unwrap();
        if let Some(speaks) = speaks {
            record["protocol"] = speaks.into();
        }
        let file = std::fs::File::create(state::path(&prefix, &id())).unwrap();
        serde_json::to_writer(file, &record).unwrap();
        let listener = listen(&run.join(SOCKET)).unwrap();
        Monitor { _directory: directory, prefix, listener }
    }

    /// Hears one request, which has to have all of the one recorded, and says these; then hangs up.
    fn answers<T>(
        &self,
        version: u32,
        request: &str,
        answers: &[&[u8]],
        ask: impl FnOnce(&Session) -> T,
    ) -> T {
        std::thread::scope(|scope| {
            let monitor = scope.spawn(|| {
                let connection = rustix::net::accept(&self.listener).unwrap();
                let channel = Channel::new(connection);
                let (heard, _) = channel.receive::<Value>(deadline(PATIENCE)).unwrap().unwrap();
                for answer in answers {
                    rustix::net::send(&channel, answer, rustix::net::SendFlags::empty()).unwrap();
                }
                heard
            });
            let session = Session::connect(&self.prefix, &id()).unwrap().expect("it listens");
            let outcome = ask(&session);
            let heard = monitor.join().unwrap();
            let mut was: Value = serde_json::from_slice(&bytes(version, request)).unwrap();
            if let Some(stop) = was.get_mut("Stop").and_then(Value::as_object_mut)
                && let Some(rest) = stop.remove("scripts")
            {
                // Of a time that passes.
                let heard = &heard["Stop"]["scripts"];
                assert!(heard.as_u64().is_some_and(|heard| Some(heard) <= rest.as_u64()), "{heard}");
            }
            assert!(has_all_of(&heard, &was), "{request} of version {version}: it was told {heard}");
            outcome
        })
    }
}

#[test]
fn a_monitor_of_every_earlier_version_is_told_what_one_of_this_version_is() {
    for version in 1..=VERSION {
        let monitor = Monitor::new(version, None);
        let said = |name: &str| bytes(version, &format!("event-{name}"));
        let (done, ended, up) = (said("done"), said("ended-halted"), said("up"));
        let stop = |session: &Session| {
            session.stop(
                Duration::from_secs(120),
                (Duration::ZERO, Some(deadline(Duration::from_secs(240)))),
                true,
                None,
            )
        };
        let warnings = monitor.answers(version, "request-stop", &[&up, &ended], stop).unwrap();
        assert_eq!(warnings.is_empty(), version == 1);
        let warnings = monitor.answers(version, "request-settled", &[&done], Session::settle).unwrap();
        assert_eq!(warnings, ["no /old"]);
        assert!(monitor.answers(version, "request-is-stopping", &[&done], Session::is_stopping));
        let refused = said("refused");
        assert!(!monitor.answers(version, "request-is-stopping", &[&refused], Session::is_stopping));
        let change = |session: &Session| session.change(&settings());
        monitor.answers(version, "request-change", &[&done], change).unwrap();
        monitor.answers(version, "request-old", &[&done], |session| session.replace_old(&[])).unwrap();
        let wait = |session: &Session| session.wait_until_up(PATIENCE, None);
        monitor.answers(version, "request-watch", &[&up], wait).unwrap();
        let died = said("ended-killed");
        let ended = monitor.answers(version, "request-watch", &[&died], wait).unwrap_err();
        assert!(matches!(ended, MonitorError::Ended { how: End::Killed(9), .. }), "{ended:?}");
        assert!(state::running(&monitor.prefix, &id()).is_some_and(|state| state.protocol == version));
    }
}

#[test]
fn one_of_another_version_that_hangs_up_is_said_to_be_one_and_what_a_later_one_adds_is_passed_over() {
    let earlier = Monitor::new(1, None);
    let error = earlier.answers(1, "request-settled", &[], Session::settle).unwrap_err();
    assert!(matches!(error, MonitorError::OtherVersion { speaks: 1 }), "{error:?}");
    let versions = format!("speaks version 1 where this one speaks {VERSION}");
    assert!(error.to_string().contains(&versions), "{error}");

    let later = Monitor::new(VERSION, Some(VERSION + 1));
    let (new, ended) = (br#"{"Snapshot":{"name":"x"}}"#, bytes(VERSION, "event-ended-halted"));
    let stop = |session: &Session| {
        let end = std::time::Instant::now() + Duration::from_secs(240);
        session.stop(Duration::from_secs(120), (Duration::ZERO, Some(end)), true, None)
    };
    later.answers(VERSION, "request-stop", &[new, &ended], stop).unwrap();
    // Of this version that is no answer.
    let own = Monitor::new(VERSION, None);
    assert!(matches!(own.answers(VERSION, "request-stop", &[new], stop), Err(MonitorError::Lost { .. })));
}

#[test]
fn the_monitor_of_every_version_is_known() {
    let present = br#"{"format":1,"pid":4700,"start_time":123450}"#;
    let later = br#"{"format":2,"pid":4700,"start_time":123450,"more":[]}"#;
    let first = br#"{"pid":4700,"start_time":123450}"#;
    for bytes in [&first[..], present, later] {
        let identity: ProcessIdentity = serde_json::from_slice(bytes).unwrap();
        assert_eq!(identity, runtime_state().monitor);
        assert_eq!(serde_json::to_vec(&record_of(identity)).unwrap(), present);
    }
}

#[test]
fn a_record_of_a_later_version_is_said_to_be_one() {
    let monitor = Monitor::new(VERSION, None);
    assert!(state::check(&monitor.prefix, &id()).is_ok());
    let path = state::path(&monitor.prefix, &id());
    let file = std::fs::File::create(&path).unwrap();
    serde_json::to_writer(file, &serde_json::json!({ "format": 2, "everything": "else" })).unwrap();
    let error = state::check(&monitor.prefix, &id()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("its format is 2, and 1 the latest known here"), "{error}");
}
