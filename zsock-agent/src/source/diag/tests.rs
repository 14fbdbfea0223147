use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP_INTR};
use netlink_packet_sock_diag::SockDiagDestroy;
use nix::errno::Errno;

use super::destroy::about;
use super::entry::cookie;
use super::exchange::{Ending, message, read};
use super::*;
use crate::record::{Family, Socket, State};

/// What a kernel 6.18 on a little-endian machine told of a connection with keepalive, 1.5 s after 100 bytes were sent over it.
const RECORDED: &[u8] = include_bytes!("../../../tests/data/sock_diag/established.bin");

/// The number of the request that it answers.
const SEQUENCE: u32 = 7;

/// Where `struct tcp_info` begins in it, and how long it is.
const INFO: usize = 128;
const INFO_BYTES: usize = 280;

/// Reads a datagram. Returns what was of sockets and, where the answer ended with it, how.
fn answers(datagram: &[u8]) -> Result<(Vec<Vec<u8>>, Option<Ending>), Error> {
    let mut ending = Ending::default();
    let mut parts = Vec::new();
    let is_over = read(datagram, SEQUENCE, &mut ending, |bytes| parts.push(bytes.to_vec()))?;
    Ok((parts, is_over.then_some(ending)))
}

fn recorded() -> Entry {
    let (parts, ending) = answers(RECORDED).unwrap();
    assert_eq!((parts.len(), ending), (1, None));
    Entry::parse(&parts[0]).unwrap()
}

/// A message of the kernel's.
fn said(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend([SEQUENCE.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
    bytes.extend(payload);
    bytes
}

#[test]
#[cfg(target_endian = "little")]
fn what_the_kernel_tells_of_a_socket_is_read_whole() {
    let entry = recorded();
    let ends = entry.ends();
    assert_eq!(ends.local, Some("127.0.0.1:45840".parse().unwrap()));
    assert_eq!(ends.remote, Some("127.0.0.1:45567".parse().unwrap()));
    assert_eq!((ends.family, ends.v4mapped, entry.is_ipv6), (Family::Ipv4, false, false));
    assert_eq!(entry.socket_id(), crate::record::SocketId(7_174_779));
    assert_eq!((entry.state, entry.timer, entry.retransmits), (State::ESTABLISHED, Timer::Keepalive, 0));
    assert_eq!((entry.expires_ms, entry.receive_queue, entry.send_queue), (7_198_496, 0, 0));
    assert_eq!((entry.uid, entry.inode, entry.id.interface_id), (0, 10_806_138, 0));
    let expected = Info {
        retransmits: Some(0),
        probes: Some(0),
        backoff: Some(0),
        rto_us: Some(204_000),
        last_data_sent_ms: Some(1504),
        last_data_recv_ms: Some(1504),
        last_ack_recv_ms: Some(1504),
        rtt_us: Some(25),
        snd_cwnd: Some(11),
        total_retrans: Some(0),
        bytes_received: Some(0),
        notsent_bytes: Some(0),
        bytes_sent: Some(100),
        snd_wnd: Some(65536),
    };
    assert_eq!(entry.info, Some(expected));
}

/// The structure only ever grew at its end.
#[test]
fn what_an_older_kernel_does_not_tell_is_absent() {
    let whole = recorded().info.unwrap();
    for (length, expected) in [
        (232, whole),
        (228, Info { snd_wnd: None, ..whole }),
        (200, Info { snd_wnd: None, bytes_sent: None, ..whole }),
        (104, Info { snd_wnd: None, bytes_sent: None, bytes_received: None, notsent_bytes: None, ..whole }),
        (0, Info::default()),
    ] {
        let mut bytes = RECORDED[16..INFO + length].to_vec();
        let attribute = u16::try_from(4 + length).unwrap();
        bytes[INFO - 20..INFO - 18].copy_from_slice(&attribute.to_ne_bytes());
        assert_eq!(Entry::parse(&bytes).unwrap().info, Some(expected), "{length}");
    }
}

#[test]
fn a_socket_without_facts_is_told_without_them() {
    let bare = Entry::parse(&RECORDED[16..16 + 72]).unwrap();
    assert_eq!(bare, Entry { info: None, ..recorded() });
    // Cut within the attribute, and within the part that every socket has.
    assert_eq!(Entry::parse(&RECORDED[16..INFO + INFO_BYTES - 1]).unwrap(), bare);
    assert_eq!(Entry::parse(&RECORDED[16..16 + 71]), None);
    let mut unknown = RECORDED[16..].to_vec();
    unknown[0] = 1;
    assert_eq!(Entry::parse(&unknown), None, "of no family that TCP has");
}

#[test]
fn a_damaged_answer_is_refused_or_read() {
    for length in 1..RECORDED.len() {
        assert!(matches!(answers(&RECORDED[..length]), Err(Error::Malformed(_))), "{length} bytes of it");
    }
    for place in 0..RECORDED.len() {
        for value in [0, 1, 3, 0x7f, 0x80, 0xff] {
            let mut bytes = RECORDED.to_vec();
            bytes[place] = value;
            for part in answers(&bytes).map_or_else(|_| Vec::new(), |(parts, _)| parts) {
                let _ = Entry::parse(&part);
            }
        }
    }
}

#[test]
fn an_answer_ends_as_the_kernel_says() {
    let ended = |datagram: &[u8]| answers(datagram).map(|(_, ending)| ending);
    let with = |errno| Ok(Some(Ending { errno, is_interrupted: false }));
    assert_eq!(ended(&said(2, 0, &0_i32.to_ne_bytes())), with(None));
    assert_eq!(ended(&said(2, 0, &(-2_i32).to_ne_bytes())), with(Some(Errno::ENOENT)));
    assert_eq!(ended(&said(2, 0, &i32::MIN.to_ne_bytes())), with(Some(Errno::UnknownErrno)));
    assert_eq!(ended(&said(3, 0, &(-95_i32).to_ne_bytes())), with(Some(Errno::EOPNOTSUPP)));
    assert_eq!(ended(&said(3, 0, &[])), with(None));
    assert!(matches!(ended(&said(2, 0, &[0; 3])), Err(Error::Malformed(_))));
    assert!(matches!(ended(&said(4, 0, &[])), Err(Error::Malformed(_))));
    assert!(matches!(ended(&said(99, 0, &[])), Err(Error::Malformed(_))));
    assert_eq!(ended(&said(1, 0, &[])), Ok(None));
    // Of another request.
    let mut foreign = said(2, 0, &0_i32.to_ne_bytes());
    foreign[8] = 8;
    assert_eq!(ended(&foreign), Ok(None));
}

#[test]
fn a_list_that_may_have_holes_is_known_for_one() {
    let mut datagram = RECORDED.to_vec();
    let flags = NLM_F_DUMP_INTR.to_ne_bytes();
    datagram[6..8].copy_from_slice(&flags);
    datagram.extend(said(3, 0, &0_i32.to_ne_bytes()));
    let (parts, ending) = answers(&datagram).unwrap();
    assert_eq!((parts.len(), ending), (1, Some(Ending { errno: None, is_interrupted: true })));
}

fn socket(local: &str, remote: Option<&str>, v4mapped: bool) -> Socket {
    let json = serde_json::json!({
        "id": "123456789abcdef0", "v4mapped": v4mapped, "local": local, "remote": remote,
        "family": if local.starts_with('[') { "ipv6" } else { "ipv4" },
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_target_is_named_as_the_kernel_does() {
    let id = |socket: &Socket| Target::of(socket).unwrap().as_kernel_id(3);
    let named = id(&socket("10.0.0.1:80", Some("10.0.0.2:4000"), false));
    assert_eq!((named.source_port, named.destination_port, named.interface_id), (80, 4000, 3));
    assert_eq!(named.source_address.to_string(), "10.0.0.1");
    assert_eq!(named.destination_address.to_string(), "10.0.0.2");
    let named = id(&socket("10.0.0.1:80", Some("10.0.0.2:4000"), true));
    assert_eq!(named.source_address.to_string(), "::ffff:10.0.0.1");
    assert_eq!(named.destination_address.to_string(), "::ffff:10.0.0.2");
    let named = id(&socket("[::]:80", None, false));
    assert_eq!((named.destination_address.to_string(), named.destination_port), ("::".to_owned(), 0));
    let unbound = Socket { local: None, ..socket("10.0.0.1:80", Some("10.0.0.2:4000"), false) };
    assert_eq!(Target::of(&unbound), None);
}

#[test]
#[cfg(target_endian = "little")]
fn the_order_to_destroy_is_one_for_this_very_socket() {
    let target = Target::of(&socket("10.0.0.1:80", Some("10.0.0.2:4000"), false)).unwrap();
    let order = message(SockDiagDestroy::new(about(&target.as_kernel_id(3))), NLM_F_ACK, SEQUENCE);
    // Length, SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, number, sender; AF_INET, IPPROTO_TCP, states; ports and addresses in the
    // network's order, the interface, the lower and the upper half of the cookie.
    let mut expected = vec![72, 0, 0, 0, 21, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([2, 6, 0, 0, 0xfe, 0x1f, 0, 0, 0, 80, 0x0f, 0xa0]);
    expected.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([3, 0, 0, 0, 0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!(order, expected);
}

#[test]
fn a_cookie_is_read_as_it_is_written() {
    let entry = recorded();
    assert_eq!(cookie(entry.socket_id()), entry.id.cookie);
    let id = crate::record::SocketId(0x1234_5678_9abc_def0);
    let mut other = entry.clone();
    other.id.cookie = cookie(id);
    assert_eq!(other.socket_id(), id);
}
