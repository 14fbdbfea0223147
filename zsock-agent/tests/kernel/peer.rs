//! Clients and servers: processes of their own, inside a namespace, under a name of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use zsock_agent::time::Time;

use crate::net::Namespace;

mod program;

/// Runs as a peer: `kernel peer NAME [adopt connection|listener]`.
pub(crate) fn program(arguments: &[String]) -> ExitCode {
    program::run(arguments)
}

/// A peer process, killed with this value.
pub(crate) struct Peer {
    name: String,
    child: Child,
    orders: ChildStdin,
    replies: Receiver<Reply>,
}

/// One line of a peer: `WORD VALUE NANOSECONDS`.
#[derive(Debug)]
pub(crate) struct Reply {
    word: String,
    value: String,
    /// When it happened.
    pub(crate) at: Time,
}

impl Reply {
    /// The value of a reply that has to begin with `word`.
    #[track_caller]
    pub(crate) fn expect(&self, word: &str) -> &str {
        assert_eq!(self.word, word, "in {self:?}");
        &self.value
    }

    /// Whether it begins with `word`.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.word == word
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (word, value, at) = (words.next()?, words.next()?, words.next()?);
        let at = Time::from_unix_ns(at.parse().ok()?);
        Some(Self { word: word.to_owned(), value: value.to_owned(), at })
    }
}

impl Peer {
    /// Starts a process named `name` (at most 15 bytes) in `namespace`.
    pub(crate) fn start(namespace: &Namespace, name: &str) -> Self {
        let mut child = namespace.enter(|| {
            Command::new("/proc/self/exe")
                .args(["peer", name])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this binary can be started again")
        });
        let orders = child.stdin.take().expect("stdin is piped");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let (send, replies) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let reply = Reply::parse(&line).unwrap_or_else(|| panic!("not a reply: {line:?}"));
                if send.send(reply).is_err() {
                    break;
                }
            }
        });
        let peer = Self { name: name.to_owned(), child, orders, replies };
        peer.reply().expect("ready");
        peer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and waits for the reply.
    pub(crate) fn ask(&mut self, order: &str) -> Reply {
        self.tell(order);
        self.reply()
    }

    /// Gives an order; its reply is still to be taken.
    pub(crate) fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}")
            .unwrap_or_else(|error| panic!("{} does not take {order:?}: {error}", self.name));
    }

    /// Waits for the reply to the order before.
    pub(crate) fn reply(&self) -> Reply {
        let limit = Duration::from_mins(3);
        self.replies
            .recv_timeout(limit)
            .unwrap_or_else(|error| panic!("{} does not reply: {error}", self.name))
    }

    /// Listens on a port of all addresses and answers every request with as many bytes, in the background.
    pub(crate) fn serve(&mut self) -> u16 {
        let port = self.listen();
        self.ask("serve").expect("serving");
        port
    }

    /// Listens on a port of all addresses that the kernel chooses.
    pub(crate) fn listen(&mut self) -> u16 {
        port(self.ask("listen 0").expect("listening"))
    }

    /// Connects and returns the local port.
    pub(crate) fn connect(&mut self, address: &str) -> u16 {
        port(self.ask(&format!("connect {address}")).expect("connected"))
    }

    /// Sends 100 bytes and reads the answer; returns when that had come.
    pub(crate) fn exchange(&mut self) -> Time {
        self.ask("write 100").expect("wrote");
        let reply = self.ask("read 100");
        reply.expect("read");
        reply.at
    }

    /// Ends the process, with whatever sockets it holds, and waits until it is gone.
    pub(crate) fn exit(&mut self) {
        self.tell("exit");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port(text: &str) -> u16 {
    text.parse().unwrap_or_else(|error| panic!("{text:?} is not a port: {error}"))
}
