//! Each check by each of its answers.

use std::collections::HashSet;
use std::io;

use super::super::Trial;
use super::*;
use crate::source::host::Content;
use crate::source::kernel::hooks::{ALL, Attachment};

const EVERY: [Capability; 7] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_NET_ADMIN,
];

/// Root on a host where nothing is in the way.
fn root() -> Host {
    Host {
        held: Ok(EVERY.into()),
        user_namespace: Ok(INITIAL_USER_NAMESPACE),
        status: Ok("Name:\tzsock\nSeccomp:\t0\n".to_owned()),
        lockdown: Ok("[none] integrity confidentiality\n".to_owned()),
        has_securityfs: true,
        locked_memory: Ok(8 << 20),
        ptrace_scope: Ok("1\n".to_owned()),
        proc_has_our_ids: true,
        proc_hides_others: false,
        sock_destroy: Ok(diag::Outcome::Gone),
        pidfd_getfd: Ok(()),
    }
}

fn without(capability: Capability) -> Host {
    let held: HashSet<_> = EVERY.into_iter().filter(|held| *held != capability).collect();
    Host { held: Ok(held), ..root() }
}

fn types() -> TypeFacts {
    TypeFacts { losses: Vec::new(), has_ring_buffer: true, counts_locked_memory: false }
}

/// Every hook tried, and attached but for these.
fn tried(without: &[&str]) -> Trial {
    let attachment = |hook: &'static crate::source::kernel::hooks::Hook| Attachment {
        hook,
        rung: (!without.contains(&hook.name)).then(|| &hook.rungs[0]),
        refused: Vec::new(),
    };
    Trial::Done(ALL.iter().map(attachment).collect())
}

fn refused() -> Trial {
    Trial::Refused { remedy: "CAP_BPF is missing: run as root".to_owned() }
}

const ENTERED: Namespaces = Namespaces { found: 3, closed: None };

fn missing() -> Content {
    Err(io::ErrorKind::NotFound.into())
}

fn denied() -> Content {
    Err(io::ErrorKind::PermissionDenied.into())
}

#[test]
fn for_root_on_an_open_host_everything_is_a_yes_and_nothing_lost() {
    let checks = all(&root(), &tried(&[]), Ok(&types()), &ENTERED, Ok(()));
    for check in &checks {
        assert_eq!((check.answer.name(), &check.lost), ("yes", &None), "{check:?}");
    }
    let names: HashSet<&str> = checks.iter().map(|check| &*check.name).collect();
    assert_eq!(names.len(), checks.len());
    assert!(NEEDS.iter().all(|need| names.contains(&*need.capability.to_string())));
}

#[test]
fn whatever_is_no_yes_says_why_and_what_is_lost() {
    let host = Host {
        held: Ok(HashSet::new()),
        user_namespace: Ok(1),
        status: denied(),
        lockdown: denied(),
        locked_memory: Err(Errno::EINVAL),
        proc_has_our_ids: false,
        sock_destroy: Err(diag::Error::NoModule),
        pidfd_getfd: Err(Errno::EPERM),
        ..root()
    };
    let no_types = Answer::no("no BTF");
    let closed = Namespaces { found: 3, closed: Some((2, Errno::EPERM)) };
    let checks = all(&host, &refused(), Err(&no_types), &closed, Err("Too many open files".to_owned()));
    for check in checks {
        assert_ne!(check.answer.name(), "yes", "{check:?}");
        assert!(check.answer.why().is_some_and(|why| !why.is_empty()), "{check:?}");
        assert!(check.lost.as_ref().is_some_and(|lost| !lost.is_empty()), "{check:?}");
    }
}

#[test]
fn whether_a_trace_starts_is_never_unknown() {
    assert_eq!(can_trace(&tried(&["error", "recovery"])), Answer::yes("without error, recovery"));
    assert_eq!(can_trace(&tried(&["state"])).name(), "no");
    assert_eq!(can_trace(&refused()), Answer::no("CAP_BPF is missing: run as root"));
    assert_eq!(can_trace(&Trial::Impossible { why: "no BTF".to_owned() }), Answer::no("no BTF"));
}

#[test]
fn fields_that_are_missing_are_named_once_with_all_that_they_take() {
    let losses = vec![
        Loss { name: "uid", fields: vec!["sk_uid"], of: "uid" },
        Loss { name: "sequence", fields: vec!["snd_una", "sk_uid"], of: "unacked_bytes" },
    ];
    let check = fields(Ok(&TypeFacts { losses, ..types() }));
    assert_eq!(check.answer, Answer::no("this kernel's types lack sk_uid, snd_una"));
    assert_eq!(check.lost.unwrap(), "uid; unacked_bytes");
}

#[test]
fn the_ring_buffer_is_known_by_the_types_where_none_may_be_made() {
    let without = TypeFacts { has_ring_buffer: false, ..types() };
    assert_eq!(ring_buffer(&refused(), Ok(&types())).name(), "yes");
    assert_eq!(ring_buffer(&refused(), Ok(&without)).name(), "no");
    assert_eq!(ring_buffer(&refused(), Err(&Answer::unknown("denied"))).name(), "unknown");
}

#[test]
fn a_capability_is_held_or_another_serves_or_it_is_missing() {
    let need = &NEEDS[0];
    assert_eq!(capability(need, &root()).answer, Answer::Yes { how: None });
    assert_eq!(capability(need, &without(need.capability)).answer, Answer::yes("CAP_SYS_ADMIN serves"));
    let none = Host { held: Ok(HashSet::new()), ..root() };
    assert_eq!(capability(need, &none).answer.name(), "no");
    assert_eq!(capability(need, &none).lost.unwrap(), need.loss);
    let unknown = Host { held: Err("denied".to_owned()), ..root() };
    assert_eq!(capability(need, &unknown).answer.name(), "unknown");
    // What is held in a user namespace, the host does not heed.
    let contained = Host { user_namespace: Ok(4_026_532_500), ..root() };
    assert_eq!(capability(need, &contained).answer, Answer::no("zsock holds it in its user namespace only"));
    assert_eq!((sock_destroy(&contained).name(), pidfd_getfd(&contained).name()), ("unknown", "unknown"));
}

#[test]
fn locked_memory_matters_where_the_kernel_counts_it() {
    let counts = TypeFacts { counts_locked_memory: true, ..types() };
    let answer =
        |locked_memory, types: Result<&TypeFacts, &Answer>| locked_memory_of(locked_memory, types).name();
    let unknown = Answer::unknown("denied");
    assert_eq!(answer(Ok(65_536), Ok(&types())), "yes");
    assert_eq!(answer(Ok(65_536), Ok(&counts)), "no");
    assert_eq!(answer(Ok(LOCKED_BYTES), Ok(&counts)), "yes");
    assert_eq!(answer(Ok(RLIM_INFINITY), Err(&unknown)), "yes");
    assert_eq!(answer(Ok(65_536), Err(&unknown)), "unknown");
    assert_eq!(answer(Err(Errno::EINVAL), Ok(&counts)), "unknown");
    assert_eq!(locked_memory(&root(), Ok(&counts)), Answer::yes("zsock may raise RLIMIT_MEMLOCK"));
}

/// For one who may not raise it.
fn locked_memory_of(limit: Result<u64, Errno>, types: Result<&TypeFacts, &Answer>) -> Answer {
    locked_memory(&Host { locked_memory: limit, ..without(Capability::CAP_SYS_RESOURCE) }, types)
}

#[test]
fn lockdown_is_read_off_its_brackets() {
    let answer = |text: &str| confinement::lockdown(&Ok(text.to_owned()), true, &refused());
    assert_eq!(answer("[none] integrity confidentiality\n"), Answer::Yes { how: None });
    assert_eq!(answer("none [integrity] confidentiality\n").name(), "yes");
    assert_eq!(answer("none integrity [confidentiality]\n").name(), "no");
    for garbage in ["", "[", "][", "none", "[nonsense]", "\u{1b}[2J]"] {
        let why = answer(garbage).why().unwrap().to_owned();
        assert!(why.starts_with("/sys/kernel/security/lockdown says ") && !why.contains('\u{1b}'), "{why}");
    }
    assert_eq!(confinement::lockdown(&missing(), true, &refused()).name(), "yes");
    assert_eq!(confinement::lockdown(&missing(), false, &refused()).name(), "unknown");
    assert_eq!(confinement::lockdown(&denied(), true, &refused()).name(), "unknown");
    // That programs load says it as well.
    assert_eq!(confinement::lockdown(&missing(), false, &tried(&[])).name(), "yes");
    assert_eq!(confinement::lockdown(&missing(), false, &tried(&["state"])).name(), "unknown");
}

#[test]
fn a_filter_of_system_calls_is_no_obstacle_where_hooks_could_be_tried() {
    let status = |text: &str| Ok(text.to_owned());
    let answer = |text, trial: &Trial| confinement::system_calls(&status(text), trial).name();
    assert_eq!(answer("Seccomp:\t0\nSeccomp_filters:\t0\n", &refused()), "yes");
    assert_eq!(answer("Name:\tzsock\n", &refused()), "yes");
    assert_eq!(answer("Seccomp:\t2\n", &refused()), "unknown");
    assert_eq!(answer("Seccomp:\t2\n", &tried(&[])), "yes");
    assert_eq!(confinement::system_calls(&denied(), &refused()).name(), "unknown");
}

#[test]
fn a_namespace_or_a_proc_that_hides_processes_is_told() {
    let hidden = Host { proc_hides_others: true, ..root() };
    assert!(confinement::proc_shows_all(&hidden).why().unwrap().contains("hidepid"));
    let inside = Host { proc_has_our_ids: false, ..root() };
    assert_eq!(confinement::proc_shows_all(&inside).name(), "unknown");
    assert_eq!(confinement::pid_namespace(&inside).name(), "no");
    assert_eq!(user_namespace(&Host { user_namespace: Ok(4_026_532_500), ..root() }).name(), "no");
    assert_eq!(network_namespaces(&inside, &ENTERED).name(), "unknown");
}

#[test]
fn network_namespaces_that_are_closed_or_not_looked_for_are_told() {
    let closed = Namespaces { found: 3, closed: Some((2, Errno::EPERM)) };
    assert_eq!(
        network_namespaces(&root(), &closed),
        Answer::no("found 3 network namespaces, of which 2 cannot be entered: Operation not permitted")
    );
    assert_eq!(network_namespaces(&without(Capability::CAP_SYS_PTRACE), &ENTERED).name(), "unknown");
    assert_eq!(network_namespaces(&root(), &ENTERED), Answer::yes("found and entered 3 network namespaces"));
}

#[test]
fn sockets_are_destroyed_by_those_who_may_where_the_kernel_can() {
    let answer = |sock_destroy| {
        let host = Host { sock_destroy, ..root() };
        (sock_diag(&host.sock_destroy).name(), sock_destroy_of(&host))
    };
    assert_eq!(answer(Ok(diag::Outcome::Gone)), ("yes", "yes"));
    assert_eq!(answer(Ok(diag::Outcome::NotBuiltIn)), ("yes", "no"));
    assert_eq!(answer(Ok(diag::Outcome::NotPermitted)), ("yes", "no"), "whatever is held");
    assert_eq!(answer(Err(diag::Error::NoModule)), ("no", "unknown"));
    let refused = diag::Error::Refused { step: "destroy a socket", errno: Errno::EPERM };
    assert_eq!(answer(Err(refused)), ("unknown", "unknown"));
    assert_eq!(sock_destroy_of(&without(Capability::CAP_NET_ADMIN)), "no");
}

fn sock_destroy_of(host: &Host) -> &'static str {
    sock_destroy(host).name()
}

#[test]
fn descriptors_of_others_are_had_by_those_who_may_trace_them() {
    let answer = |answer| pidfd_getfd(&Host { pidfd_getfd: answer, ..root() }).name();
    assert_eq!(answer(Ok(())), "yes");
    assert_eq!(answer(Err(Errno::ENOSYS)), "no");
    assert_eq!(answer(Err(Errno::EPERM)), "no");
    let scope = |scope: &str| pidfd_getfd(&Host { ptrace_scope: Ok(scope.to_owned()), ..root() }).name();
    assert_eq!([scope("0\n"), scope("2\n"), scope("3\n"), scope("nonsense")], ["yes", "yes", "no", "yes"]);
    assert_eq!(pidfd_getfd(&Host { ptrace_scope: missing(), ..root() }).name(), "yes");
    assert_eq!(pidfd_getfd(&without(Capability::CAP_SYS_PTRACE)).name(), "no");
}
