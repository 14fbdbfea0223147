//! A real browser: Debian's Chromium without a screen, driven over `WebDriver`, which is JSON over HTTP.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Chromium's options: no screen, root, and nothing sent anywhere by itself.
const OPTIONS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
];

/// Why there is no browser here, if there is none.
pub(crate) fn lacking() -> Option<String> {
    let lacking = ["chromium", "chromedriver"].into_iter().find_map(|program| {
        let error = Command::new(program).arg("--version").output().err()?;
        Some(format!("needs `{program}` in PATH (Debian's packages chromium and chromium-driver): {error}"))
    });
    lacking.or_else(|| {
        let tried = leashed().arg("true").output();
        let works = tried.as_ref().is_ok_and(|tried| tried.status.success());
        (!works).then(|| format!("needs `setpriv`, and `unshare` that may make a PID namespace (root, or user namespaces): {tried:?}"))
    })
}

/// Runs what follows in a PID namespace, all of which ends with its first process, which ends with this one however that comes to its end:
/// no browser outlives its test.
fn leashed() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

/// The program that speaks `WebDriver`. Ends with the value.
pub(crate) struct Driver {
    child: Child,
    port: u16,
    /// Kept open: chromedriver does not outlive its reader.
    _stdout: BufReader<ChildStdout>,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let mut child = leashed()
            .args(["chromedriver", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("its version could be asked for");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut said = stdout.by_ref().lines().map_while(Result::ok);
        let port = said
            .find_map(|line| {
                line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver tells its port");
        Self { child, port, _stdout: stdout }
    }

    /// Opens `file` in a window of a browser of its own.
    pub(crate) fn open(&self, file: &Path) -> Tab {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let profile = crate::directory().join("profiles").join(format!("{}-{number}", std::process::id()));
        let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        arguments.push("--window-size=1500,950".to_owned());
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": 60_000},
        }}});
        let session = request(self.port, &Method::POST, "/session", &wanted);
        let id = session["sessionId"].as_str().expect("a session has an id").to_owned();
        let tab = Tab { port: self.port, path: format!("/session/{id}"), profile };
        tab.post("/url", &json!({"url": format!("file://{}", file.display())}));
        tab
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page in a browser.
pub(crate) struct Tab {
    port: u16,
    path: String,
    profile: PathBuf,
}

impl Tab {
    fn post(&self, command: &str, body: &Value) -> Value {
        request(self.port, &Method::POST, &format!("{}{command}", self.path), body)
    }

    /// What a function with this body returns on the page.
    pub(crate) fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// What a function with this body gives to `done`, sooner or later.
    pub(crate) fn run_to_end(&self, body: &str) -> Value {
        let script = format!("const done = arguments[0]; {body}");
        self.post("/execute/async", &json!({"script": script, "args": []}))
    }

    /// Looks before every drawing of the page until `condition` holds.
    pub(crate) fn wait(&self, condition: &str) {
        let look =
            format!("const look = () => ({condition}) ? done(true) : requestAnimationFrame(look); look()");
        assert_eq!(self.run_to_end(&look), true);
    }

    /// Presses the first element that `selector` finds, as a person would.
    pub(crate) fn click(&self, selector: &str) {
        let path = format!("/element/{}/click", self.element(selector));
        self.post(&path, &json!({}));
    }

    /// Types into it.
    pub(crate) fn keys(&self, selector: &str, text: &str) {
        let path = format!("/element/{}/value", self.element(selector));
        self.post(&path, &json!({"text": text}));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no element is {selector}: {found}")).to_owned()
    }

    /// Moves the pointer with the button held down from one place of the window to another.
    pub(crate) fn drag(&self, from: [i64; 2], to: [i64; 2]) {
        let to_place = |[x, y]: [i64; 2]| json!({"type": "pointerMove", "duration": 0, "x": x, "y": y});
        let actions = [
            to_place(from),
            json!({"type": "pointerDown", "button": 0}),
            to_place(to),
            json!({"type": "pointerUp", "button": 0}),
        ];
        self.post("/actions", &json!({"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]}));
    }

    /// Has the page believe that its reader prefers this colour scheme.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}),
        );
    }

    /// What the browser complained of since this was asked last.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.log("browser").into_iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses of all that a page from a file asked for since this was asked last, the file included; the browser's own pages aside.
    pub(crate) fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter();
        let messages =
            events.filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        messages
            .filter(|event| event["message"]["method"] == "Network.requestWillBeSent")
            .map(|event| event["message"]["params"].clone())
            .filter(|sent| !sent["documentURL"].as_str().is_some_and(|of| of.starts_with("chrome:")))
            .filter_map(|sent| sent.pointer("/request/url")?.as_str().map(str::to_owned))
            .collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", &json!({"type": kind})).as_array().cloned().unwrap_or_default()
    }

    /// Keeps a picture of the window.
    pub(crate) fn picture(&self, name: &str) {
        use base64::Engine as _;
        let picture = request(self.port, &Method::GET, &format!("{}/screenshot", self.path), &Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(picture.as_str().expect("a picture is a string"))
            .expect("in base64");
        let file = crate::directory().join(format!("{name}.png"));
        fs::File::create(&file).and_then(|mut to| to.write_all(&bytes)).expect("the directory takes files");
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        // Of a test that failed, the browser ends with the driver.
        if !std::thread::panicking() {
            request(self.port, &Method::DELETE, &self.path, &Value::Null);
        }
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// Asks the driver and gives its answer's value.
///
/// # Panics
/// Where it refuses.
fn request(port: u16, method: &Method, path: &str, body: &Value) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let answer = runtime.block_on(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("chromedriver listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        let connection = tokio::spawn(connection);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{port}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a sound request");
        let answer = sender.send_request(request).await.expect("chromedriver answers");
        let answer = answer.into_body().collect().await.expect("in whole").to_bytes();
        connection.abort();
        serde_json::from_slice::<Value>(&answer).expect("in JSON")
    });
    let value = answer["value"].clone();
    assert!(value.get("error").is_none(), "{method} {path} {body}: {value}");
    value
}
