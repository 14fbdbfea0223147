//! How each hook can be attached here: tried where zsock may, and else as far as the kernel's types tell.

use crate::record::{Answer, HookCheck, RefusedWay};
use crate::source::kernel::hooks::{ALL, Attachment, Hook, LOOK_AT_HOLDERS, LOOK_AT_SOCKETS, Rung, SOCKETS};

/// Every hook, in the order in which they are told.
fn every() -> impl Iterator<Item = &'static Hook> {
    [&SOCKETS].into_iter().chain(ALL).chain([&LOOK_AT_SOCKETS, &LOOK_AT_HOLDERS])
}

/// What was tried.
#[must_use]
pub fn tried(attachments: &[Attachment]) -> Vec<HookCheck> {
    let check = |attachment: &Attachment| {
        let refused = attachment.refused.iter();
        let refused: Vec<_> =
            refused.map(|refusal| RefusedWay { way: refusal.way, why: refusal.why.clone() }).collect();
        let answer = match attachment.rung {
            Some(rung) => Answer::yes(rung.label),
            None => Answer::no("this kernel refuses every way"),
        };
        HookCheck { name: attachment.hook.name, answer, refused, lost: attachment.hook.loss }
    };
    attachments.iter().map(check).collect()
}

/// What can be said where nothing could be tried, because of `why`. `lacks` tells what the kernel has not that a rung needs.
pub fn untried(why: &str, lacks: impl Fn(&Hook, &Rung) -> Option<String>) -> Vec<HookCheck> {
    let check = |hook: &'static Hook| {
        let missing = |rung: &'static Rung| lacks(hook, rung).map(|why| RefusedWay { way: rung.label, why });
        let refused: Vec<_> = hook.rungs.iter().filter_map(missing).collect();
        let answer = if refused.len() == hook.rungs.len() {
            Answer::no("this kernel has nothing to attach it to")
        } else {
            Answer::unknown(why)
        };
        HookCheck { name: hook.name, answer, refused, lost: hook.loss }
    };
    every().map(check).collect()
}

/// What can be said of a kernel whose types zsock cannot use, which is `answer`.
#[must_use]
pub fn without_types(answer: &Answer) -> Vec<HookCheck> {
    let check = |hook: &Hook| HookCheck {
        name: hook.name,
        answer: answer.clone(),
        refused: Vec::new(),
        lost: hook.loss,
    };
    every().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::hooks::Refusal;

    fn hook(name: &str) -> &'static Hook {
        every().find(|hook| hook.name == name).unwrap()
    }

    #[test]
    fn what_was_tried_is_yes_with_the_way_or_no_with_every_refusal() {
        let refusal = |way: &'static str| Refusal { way, why: "Operation not permitted".to_owned() };
        let keepalive = hook("keepalive");
        let attachments = [
            Attachment {
                hook: keepalive,
                rung: Some(&keepalive.rungs[1]),
                refused: vec![refusal(keepalive.rungs[0].label)],
            },
            Attachment {
                hook: hook("error"),
                rung: None,
                refused: vec![refusal("tp_btf/inet_sk_error_report")],
            },
        ];
        let checks = tried(&attachments);
        assert_eq!(checks[0].answer, Answer::yes("kprobe/tcp_keepalive_timer"));
        assert_eq!(checks[0].refused[0].way, "fentry/tcp_keepalive_timer");
        assert_eq!(checks[1].answer.name(), "no");
        assert_eq!(checks[1].refused[0].why, "Operation not permitted");
        assert_eq!(checks[1].lost, hook("error").loss);
    }

    #[test]
    fn without_rights_only_what_the_kernel_lacks_altogether_is_a_no() {
        let lacks = |hook: &Hook, rung: &Rung| {
            (hook.name == "error" || rung.name == "fentry").then(|| "gone".to_owned())
        };
        let checks = untried("CAP_BPF is missing", lacks);
        let of = |name: &str| checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(of("error").answer.name(), "no");
        assert_eq!(of("state").answer, Answer::unknown("CAP_BPF is missing"));
        assert_eq!(of("keepalive").answer, Answer::unknown("CAP_BPF is missing"));
        let gone = RefusedWay { way: "fentry/tcp_keepalive_timer", why: "gone".to_owned() };
        assert_eq!(of("keepalive").refused, [gone]);
        assert_eq!(checks.len(), ALL.len() + 3);
    }

    #[test]
    fn where_zsock_cannot_run_every_hook_is_a_no() {
        let checks = without_types(&Answer::no("no BTF"));
        assert!(checks.iter().all(|check| check.answer == Answer::no("no BTF") && check.refused.is_empty()));
        assert_eq!(checks.len(), ALL.len() + 3);
    }
}
