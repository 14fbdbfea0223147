//! What a peer process does: orders from stdin, one a line, a reply to each on stdout.
//!
//! It holds at most one connection and one listener, and as many more connections as a crowd has. Every call blocks;
//! whoever gives the orders waits for the reply.

use std::io::{self, BufRead as _, ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::str::SplitWhitespace;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, TcpKeepalive, Type};

use crate::now;

mod crowd;
mod options;
mod pool;

/// Takes orders until stdin ends or one of them is `exit`.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let name = arguments.first().map_or("peer", String::as_str);
    let name = std::ffi::CString::new(name).expect("an argument has no NUL");
    nix::sys::prctl::set_name(&name).expect("any process may name itself");
    close_inherited();
    let mut peer = Program::default();
    match arguments.get(1..) {
        Some([adopt, what]) if adopt == "adopt" => {
            peer.adopt(what);
            reply(Ok(Said("adopted", std::process::id().to_string())));
        }
        _ => reply(Ok(Said("ready", "-".to_owned()))),
    }
    loop {
        let mut order = String::new();
        // No order comes before the reply to the one before, so nothing is read ahead of a worker that inherits stdin.
        if !matches!(io::stdin().lock().read_line(&mut order), Ok(1..)) {
            return ExitCode::SUCCESS;
        }
        let mut words = order.split_whitespace();
        match words.next() {
            Some("exit") => return ExitCode::SUCCESS,
            Some(word) => reply(peer.obey(word, words)),
            None => {}
        }
    }
}

/// Takes a name of any bytes, given in hexadecimal.
fn call_yourself(name: &str) -> io::Result<Said> {
    let byte = |at: usize| u8::from_str_radix(name.get(at..at + 2)?, 16).ok();
    let name: Option<Vec<u8>> = (0..name.len()).step_by(2).map(byte).collect();
    let name = name.and_then(|name| std::ffi::CString::new(name).ok()).ok_or(ErrorKind::InvalidInput)?;
    nix::sys::prctl::set_name(&name)?;
    Ok(Said("called", "-".to_owned()))
}

/// Closes what whoever started the tests left open, so that this process's descriptors can be counted.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let open: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// A reply: a word and its value.
struct Said(&'static str, String);

fn reply(said: io::Result<Said>) {
    let Said(word, value) = said.unwrap_or_else(|error| Said("error", name_of(&error)));
    println!("{word} {value} {}", now().as_unix_ns());
}

fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => error.to_string().replace(' ', "-"),
    }
}

#[derive(Default)]
struct Program {
    connection: Option<Socket>,
    listener: Option<Socket>,
    crowd: crowd::Crowd,
    pool: pool::Pool,
    variants: options::Variants,
}

impl Program {
    fn obey(&mut self, word: &str, mut words: SplitWhitespace<'_>) -> io::Result<Said> {
        match word {
            "listen" => self.listen(argument(&mut words)?),
            "backlog" => self.set_backlog(argument(&mut words)?),
            "serve" => self.serve(),
            "accept" => self.accept(),
            "open" => self.open(argument(&mut words)?),
            "connect" => self.connect(argument(&mut words)?),
            "connect-in-thread" => self.connect_in_thread(argument(&mut words)?, argument(&mut words)?),
            "start-connect" => self.start_connect(argument(&mut words)?),
            "finish-connect" => self.finish_connect(),
            "receive-buffer" => self.set_receive_buffer(argument(&mut words)?),
            "user-timeout" => self.set_user_timeout(argument(&mut words)?),
            "keepalive" => {
                self.set_keepalive(argument(&mut words)?, argument(&mut words)?, argument(&mut words)?)
            }
            "guard" => self.guard(),
            "settings" => self.settings(),
            "reset-on-close" => self.set_reset_on_close(),
            "write" => self.write(argument(&mut words)?),
            "write-all" => self.write_until_full(),
            "read" => self.read(argument(&mut words)?),
            "poll" => self.poll(),
            "sip" => self.sip(argument(&mut words)?, argument(&mut words)?),
            "answer" => self.answer(argument(&mut words)?),
            "converse" => self.converse(argument(&mut words)?),
            "drain" => self.drain(),
            "shutdown" => self.shut_down(),
            "close" => self.close(),
            "churn" => churn(argument(&mut words)?, argument(&mut words)?),
            "pass" => self.hand_over(words.next().unwrap_or("worker"), false),
            "share" => self.hand_over(words.next().unwrap_or("worker"), true),
            "nofile" => crowd::set_nofile(argument(&mut words)?),
            "dial" => self.crowd.dial(argument(&mut words)?, argument(&mut words)?),
            "accept-all" => self.crowd.accept_all(held(&mut self.listener)?),
            "welcome" => self.crowd.welcome(held(&mut self.listener)?, argument(&mut words)?),
            "send-all" => self.crowd.send_all(argument(&mut words)?),
            "storm" => crowd::storm(Duration::from_secs(argument(&mut words)?)),
            "call-yourself" => call_yourself(words.next().unwrap_or_default()),
            "let-go" => self.crowd.let_go(argument(&mut words)?),
            "idle-crowd" => self.crowd.idle(argument(&mut words)?),
            "variants" => self.variants.connect(argument(&mut words)?),
            "listening-variants" => self.variants.listen(),
            "pool" => self.pool.open(argument(&mut words)?, argument(&mut words)?),
            "query" => self.pool.query(),
            unknown => Err(io::Error::other(format!("no order {unknown}"))),
        }
    }

    /// Listens on all addresses of both families.
    fn listen(&mut self, port: u16) -> io::Result<Said> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        socket.listen(128)?;
        let said = Said("listening", local_port(&socket)?);
        self.listener = Some(socket);
        Ok(said)
    }

    /// Sets the listener's backlog, which the kernel takes anew at every `listen`.
    fn set_backlog(&mut self, backlog: i32) -> io::Result<Said> {
        held(&mut self.listener)?.listen(backlog)?;
        Ok(Said("set", backlog.to_string()))
    }

    fn serve(&mut self) -> io::Result<Said> {
        let listener = held(&mut self.listener)?.try_clone()?;
        thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                thread::spawn(move || echo(&connection));
            }
        });
        Ok(Said("serving", "-".to_owned()))
    }

    fn accept(&mut self) -> io::Result<Said> {
        let (connection, peer) = held(&mut self.listener)?.accept()?;
        self.connection = Some(connection);
        Ok(Said("accepted", peer.as_socket().map_or(0, |peer| peer.port()).to_string()))
    }

    /// Makes a socket for an address without connecting it.
    fn open(&mut self, address: SocketAddr) -> io::Result<Said> {
        self.connection = Some(Socket::new(Domain::for_address(address), Type::STREAM, None)?);
        Ok(Said("opened", "-".to_owned()))
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<Said> {
        if self.connection.is_none() {
            self.open(address)?;
        }
        let socket = held(&mut self.connection)?;
        socket.connect(&address.into())?;
        Ok(Said("connected", local_port(socket)?))
    }

    fn connect_in_thread(&mut self, name: String, address: SocketAddr) -> io::Result<Said> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let connect = move || socket.connect(&address.into()).map(|()| socket);
        let socket =
            thread::Builder::new().name(name).spawn(connect)?.join().expect("connect does not panic")?;
        let said = Said("connected", local_port(&socket)?);
        self.connection = Some(socket);
        Ok(said)
    }

    fn start_connect(&mut self, address: SocketAddr) -> io::Result<Said> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let said = Said("connecting", local_port(&socket)?);
        self.connection = Some(socket);
        Ok(said)
    }

    fn finish_connect(&mut self) -> io::Result<Said> {
        let socket = held(&mut self.connection)?;
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        socket.set_nonblocking(false)?;
        Ok(Said("connected", local_port(socket)?))
    }

    /// Fixes the size that the kernel would else choose by how fast data comes and goes.
    fn set_receive_buffer(&mut self, bytes: usize) -> io::Result<Said> {
        held(&mut self.connection)?.set_recv_buffer_size(bytes)?;
        Ok(Said("set", bytes.to_string()))
    }

    fn set_user_timeout(&mut self, milliseconds: u64) -> io::Result<Said> {
        held(&mut self.connection)?.set_tcp_user_timeout(Some(Duration::from_millis(milliseconds)))?;
        Ok(Said("set", milliseconds.to_string()))
    }

    /// Keepalive by the settings of the network namespace.
    fn guard(&mut self) -> io::Result<Said> {
        held(&mut self.connection)?.set_keepalive(true)?;
        Ok(Said("guarded", "-".to_owned()))
    }

    fn set_keepalive(&mut self, idle_s: u64, interval_s: u64, probes: u32) -> io::Result<Said> {
        let settings = TcpKeepalive::new()
            .with_time(Duration::from_secs(idle_s))
            .with_interval(Duration::from_secs(interval_s))
            .with_retries(probes);
        held(&mut self.connection)?.set_tcp_keepalive(&settings)?;
        Ok(Said("set", probes.to_string()))
    }

    /// What `getsockopt` says of the connection's keepalive and user timeout.
    fn settings(&mut self) -> io::Result<Said> {
        let socket = held(&mut self.connection)?;
        let user_timeout = socket.tcp_user_timeout()?.unwrap_or_default().as_millis();
        let [idle, interval] = [socket.tcp_keepalive_time()?, socket.tcp_keepalive_interval()?];
        let (enabled, probes) = (socket.keepalive()?, socket.tcp_keepalive_retries()?);
        let settings =
            format!("{enabled},{},{},{probes},{user_timeout}", idle.as_millis(), interval.as_millis());
        Ok(Said("settings", settings))
    }

    fn set_reset_on_close(&mut self) -> io::Result<Said> {
        held(&mut self.connection)?.set_linger(Some(Duration::ZERO))?;
        Ok(Said("set", "0".to_owned()))
    }

    fn write(&mut self, count: usize) -> io::Result<Said> {
        held(&mut self.connection)?.write_all(&vec![b'z'; count])?;
        Ok(Said("wrote", count.to_string()))
    }

    /// Writes until the kernel takes no more, and none a while later: what is still under way makes room.
    fn write_until_full(&mut self) -> io::Result<Said> {
        let mut socket = &*held(&mut self.connection)?;
        socket.set_nonblocking(true)?;
        let mut count = 0;
        let refused = loop {
            match socket.write(&[b'z'; 4096]) {
                Ok(written) => count += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock && has_room_soon(socket)? => {}
                Err(error) => break error,
            }
        };
        socket.set_nonblocking(false)?;
        if refused.kind() == ErrorKind::WouldBlock {
            Ok(Said("wrote", count.to_string()))
        } else {
            Err(refused)
        }
    }

    /// Reads `count` bytes, fewer only where the stream ends.
    fn read(&mut self, count: usize) -> io::Result<Said> {
        let socket = held(&mut self.connection)?;
        let mut got = Vec::new();
        match (&*socket).take(count as u64).read_to_end(&mut got)? {
            0 => Ok(Said("eof", "0".to_owned())),
            read => Ok(Said("read", read.to_string())),
        }
    }

    /// Waits until there is something to read, as those do who want it within a time.
    fn poll(&mut self) -> io::Result<Said> {
        let socket = held(&mut self.connection)?;
        let ready = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        Ok(Said("ready", ready.to_string()))
    }

    /// Reads `count` bytes at most, `times` over, with a fifth of a second between.
    fn sip(&mut self, count: usize, times: u32) -> io::Result<Said> {
        let mut socket = &*held(&mut self.connection)?;
        let mut read = 0;
        for _ in 0..times {
            read += socket.read(&mut vec![0; count])?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(Said("sipped", read.to_string()))
    }

    /// Answers `count` requests of 100 bytes with as many bytes.
    fn answer(&mut self, count: u32) -> io::Result<Said> {
        let mut socket = &*held(&mut self.connection)?;
        for _ in 0..count {
            socket.read_exact(&mut [0; 100])?;
            socket.write_all(&[b'z'; 100])?;
        }
        Ok(Said("answered", count.to_string()))
    }

    /// Sends `count` requests of 100 bytes, each as soon as the one before is answered.
    fn converse(&mut self, count: u32) -> io::Result<Said> {
        let mut socket = &*held(&mut self.connection)?;
        for _ in 0..count {
            socket.write_all(&[b'z'; 100])?;
            socket.read_exact(&mut [0; 100])?;
        }
        Ok(Said("conversed", count.to_string()))
    }

    /// Closes the half of the connection in which this process sends.
    fn shut_down(&mut self) -> io::Result<Said> {
        held(&mut self.connection)?.shutdown(Shutdown::Write)?;
        Ok(Said("shut", "-".to_owned()))
    }

    /// Reads until the stream ends.
    fn drain(&mut self) -> io::Result<Said> {
        let read = io::copy(held(&mut self.connection)?, &mut io::sink())?;
        Ok(Said("drained", read.to_string()))
    }

    fn close(&mut self) -> io::Result<Said> {
        held(&mut self.connection)?;
        self.connection = None;
        Ok(Said("closed", "-".to_owned()))
    }

    /// Starts a process named `name` that holds the connection, or else the listener. It takes the orders from now on.
    ///
    /// It gets the socket as its stderr: the one way to inherit a descriptor that needs no unsafe code.
    fn hand_over(&mut self, name: &str, keep: bool) -> io::Result<Said> {
        let (what, socket) = match (&self.connection, &self.listener) {
            (Some(socket), _) => ("connection", socket),
            (None, Some(socket)) => ("listener", socket),
            (None, None) => return Err(ErrorKind::NotConnected.into()),
        };
        let mut worker = Command::new("/proc/self/exe")
            .args(["peer", name, "adopt", what])
            .stderr(Stdio::from(OwnedFd::from(socket.try_clone()?)))
            .spawn()?;
        if !keep {
            (self.connection, self.listener) = (None, None);
        }
        worker.wait()?;
        Ok(Said("worker-ended", "-".to_owned()))
    }

    fn adopt(&mut self, what: &str) {
        let socket = io::stderr().as_fd().try_clone_to_owned().expect("stderr is the socket handed over");
        let null = std::fs::File::open("/dev/null").expect("/dev/null is always there");
        nix::unistd::dup2_stderr(&null).expect("stderr can be replaced");
        let slot = if what == "listener" { &mut self.listener } else { &mut self.connection };
        *slot = Some(Socket::from(socket));
    }
}

/// Opens `count` connections one after the other, each with a request, an answer and an orderly close.
/// Whether the kernel takes more within 300 ms.
fn has_room_soon(socket: &Socket) -> io::Result<bool> {
    let mut writable = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    Ok(poll(&mut writable, PollTimeout::from(300_u16))? > 0)
}

fn churn(address: SocketAddr, count: u32) -> io::Result<Said> {
    for _ in 0..count {
        let mut socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect(&address.into())?;
        socket.write_all(&[b'z'; 100])?;
        socket.read_exact(&mut [0; 100])?;
    }
    Ok(Said("churned", count.to_string()))
}

fn echo(mut connection: &Socket) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    loop {
        let count = connection.recv(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        connection.write_all(&vec![b'z'; count])?;
    }
}

fn held(slot: &mut Option<Socket>) -> io::Result<&mut Socket> {
    slot.as_mut().ok_or_else(|| io::Error::other("no such socket"))
}

fn local_port(socket: &Socket) -> io::Result<String> {
    Ok(socket.local_addr()?.as_socket().map_or(0, |local| local.port()).to_string())
}

fn argument<T: std::str::FromStr>(words: &mut SplitWhitespace<'_>) -> io::Result<T> {
    let word = words.next().ok_or_else(|| io::Error::other("argument missing"))?;
    word.parse().map_err(|_| io::Error::other(format!("bad argument {word}")))
}
