//! What a reader of the page does and sees.

use std::fs;

use serde_json::{Value, json};
use zsock_agent::report::Report;

use crate::browser::{Driver, Tab};
use crate::{page, reports};

type Scene = fn(&Driver);

/// Each with the claim that it checks.
pub(crate) const ALL: &[(&str, Scene)] = &[
    ("a_page_draws_its_lanes_without_a_word_to_anybody", draws),
    ("a_click_on_a_lane_shows_its_timeline", click),
    ("states_verdicts_and_signs_stand_at_their_times", bars_and_signs),
    ("filters_leave_the_lanes_that_pass", filters),
    ("an_incident_leaves_its_sockets_and_shows_their_trouble", incident),
    ("both_ends_of_a_connection_stand_side_by_side", both_ends),
    ("the_window_zooms_and_moves_by_pointer_and_keys", zooms),
    ("what_processes_call_themselves_is_shown_and_never_run", hostile),
    ("ten_thousand_sockets_load_filter_and_scroll", many),
    ("no_trouble_is_said_in_words", nothing),
    ("light_and_dark_can_both_be_read", schemes),
];

/// The page of `report` once it is drawn.
fn open(driver: &Driver, name: &str, report: &Report) -> Tab {
    let tab = driver.open(&page(name, report));
    tab.wait("document.documentElement.dataset.ready === 'yes'");
    drawn(&tab);
    tab
}

/// Waits until what was asked for is drawn: two frames, for the first may have begun before.
fn drawn(tab: &Tab) {
    tab.run("window.frames_drawn = 0; const tick = () => { window.frames_drawn += 1; requestAnimationFrame(tick); }; requestAnimationFrame(tick);");
    tab.wait("window.frames_drawn > 2");
}

fn lanes(tab: &Tab) -> Value {
    tab.run("return document.querySelectorAll('.lane').length")
}

fn text(tab: &Tab, selector: &str) -> String {
    let found = tab.run(&format!("return document.querySelector({}).innerText", json!(selector)));
    found.as_str().expect("an element has text").to_owned()
}

/// How many different colours the canvas of this id shows.
fn colours(tab: &Tab, id: &str) -> u64 {
    let count = "const it = document.getElementById(arguments_id); const of = it.getContext('2d').getImageData(0, 0, it.width, it.height).data; \
        const seen = new Set(); for (let at = 0; at < of.length; at += 4) seen.add(of[at] << 16 | of[at + 1] << 8 | of[at + 2]); return seen.size";
    tab.run(&count.replace("arguments_id", &json!(id).to_string())).as_u64().expect("a number")
}

/// Where on the canvas of the lanes there are pixels of the colour of this name: from which part of its width to which.
fn painted(tab: &Tab, colour: &str) -> [f64; 2] {
    let body = "const wanted = getComputedStyle(document.documentElement).getPropertyValue(name).trim(); \
        const it = document.getElementById('bars'), of = it.getContext('2d').getImageData(0, 0, it.width, it.height).data, found = []; \
        for (let at = 0; at < of.length; at += 4) \
          if (`#${[0, 1, 2].map((more) => of[at + more].toString(16).padStart(2, '0')).join('')}` === wanted) found.push((at / 4) % it.width); \
        return [Math.min(...found) / it.width, Math.max(...found) / it.width]";
    let found = tab.run(&format!("const name = {}; {body}", json!(format!("--{colour}"))));
    [0, 1].map(|at| found[at].as_f64().unwrap_or_else(|| panic!("nothing is painted in {colour}")))
}

/// From when until when the window shows, in words.
fn window(tab: &Tab) -> String {
    text(tab, "#window")
}

fn draws(driver: &Driver) {
    let tab = open(driver, "gallery", &reports::gallery());
    assert_eq!(lanes(&tab), 7);
    for canvas in ["bars", "axis", "overview"] {
        assert!(colours(&tab, canvas) > 3, "{canvas} is blank");
    }
    tab.picture("gallery");
    tab.click("#legend summary");
    tab.wait("document.querySelectorAll('#signs li').length > 20");
    drawn(&tab);
    tab.picture("legend");
    assert!(text(&tab, "#warnings").contains("1 gap in which nobody watched"));
    let (complaints, requests) = (tab.complaints(), tab.requests());
    assert_eq!(complaints, [""; 0]);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].starts_with("file:///") && requests[0].ends_with("/gallery.html"), "{requests:?}");
}

fn click(driver: &Driver) {
    let tab = open(driver, "one", &reports::one());
    assert_eq!(lanes(&tab), 1);
    assert_eq!(tab.run("return document.getElementById('detail').hidden"), true);
    tab.click(".lane .owner");
    tab.wait("!document.getElementById('detail').hidden");
    drawn(&tab);
    tab.picture("one");
    let detail = text(&tab, "#detail");
    for said in [
        "checkout[18851]  10.0.1.4:37630 → 10.0.5.7:5432",
        "silent_death",
        "critical, final",
        "closed: silent_death",
        "the kernel gave up on the connection of checkout (pid 18851)",
        "unacked 312 bytes",
        "set TCP_USER_TIMEOUT to 93000 (milliseconds)",
        "11:17:03.386",
        "−15 min 35 s",
        "rto, attempt 15, next in 2 min",
        "(replayed)",
    ] {
        assert!(detail.contains(said), "{said} is not in\n{detail}");
    }
    let rows = tab.run("return document.querySelectorAll('.timeline tbody tr:not(.day)').length");
    assert_eq!(rows, 25, "21 events and what was told of two verdicts: opened, updated, closed, final");
    tab.click("#close");
    tab.wait("document.getElementById('detail').hidden");
    assert_eq!(tab.complaints(), [""; 0]);
}

/// The run lasts from 11:11:58.584 to 11:32:40.753, and the window shows a twenty-fifth of that more on either side.
fn bars_and_signs(driver: &Driver) {
    let tab = open(driver, "one", &reports::one());
    let place = |seconds: f64| (0.04 + seconds / 1_242.169) / 1.08;
    let near = |seen: f64, expected: f64| (seen - expected).abs() < 0.004;
    let [born, closed] = painted(&tab, "open");
    assert!(near(born, place(0.225)), "ESTABLISHED from {born}");
    // The sign of its death covers the end of the bar.
    assert!((place(1_215.0)..place(1_241.0)).contains(&closed), "ESTABLISHED until {closed}");
    let [sent_again, _] = painted(&tab, "warning");
    assert!(
        (place(295.0)..place(302.0)).contains(&sent_again),
        "the first retransmission is at {sent_again}"
    );
    let [left, right] = painted(&tab, "critical");
    assert!(near(f64::midpoint(left, right), place(1_240.158)), "it died between {left} and {right}");
}

fn filters(driver: &Driver) {
    let tab = open(driver, "gallery", &reports::gallery());
    let choose = |select: &str, option: &str| {
        tab.run(&format!(
            "const it = document.getElementById('{select}'); it.value = [...it.options].find((o) => o.text.startsWith('{option}')).value; \
             it.dispatchEvent(new Event('change'))"
        ));
        drawn(&tab);
        text(&tab, "#count")
    };
    assert_eq!(choose("by-process", "checkout"), "2 of 7 lanes");
    assert_eq!(lanes(&tab), 2);
    assert_eq!(choose("by-verdict", "silent_death"), "1 of 7 lanes");
    assert_eq!(choose("by-verdict", "all"), "2 of 7 lanes");
    assert_eq!(choose("by-process", "all"), "7 of 7 lanes");
    assert_eq!(choose("by-place", "→ 10.0.5.7:5432"), "3 of 7 lanes");
    tab.click("#clear");
    tab.keys("#by-text", "MAILER 40001");
    tab.wait("document.getElementById('count').textContent === '1 of 7 lanes'");
    tab.keys("#by-text", "nobody");
    tab.wait("document.getElementById('count').textContent === '0 of 7 lanes'");
    drawn(&tab);
    assert_eq!(lanes(&tab), 0);
    assert!(text(&tab, "#nothing").contains("No socket passes the filters."));
    assert_eq!(tab.complaints(), [""; 0]);
}

fn incident(driver: &Driver) {
    let tab = open(driver, "pool", &reports::pool(37));
    tab.picture("pool");
    assert_eq!(text(&tab, "#count"), "37 of 37 lanes");
    let trouble = window(&tab);
    assert!(
        trouble.starts_with("2026-11-22 13:1") && trouble.contains("20 min"),
        "begins where trouble is: {trouble}"
    );
    tab.click("#all");
    drawn(&tab);
    assert!(window(&tab).ends_with("2 h 31 min"), "{}", window(&tab));
    tab.click(".incident");
    drawn(&tab);
    assert_eq!(window(&tab), trouble);
    assert_eq!(tab.run("return document.querySelector('.incident').ariaPressed"), "true");

    let tab = open(driver, "gallery", &reports::gallery());
    tab.click(".incident");
    drawn(&tab);
    assert_eq!(text(&tab, "#count"), "1 of 7 lanes");
    tab.click(".incident");
    drawn(&tab);
    assert_eq!(text(&tab, "#count"), "7 of 7 lanes");
}

fn both_ends(driver: &Driver) {
    let tab = open(driver, "both", &reports::both_ends());
    tab.click(".lane .owner");
    tab.wait("!document.getElementById('detail').hidden");
    drawn(&tab);
    tab.picture("both");
    let head = text(&tab, ".timeline thead");
    assert!(head.contains("web-1: checkout[18851]") && head.contains("db-1: postgres[411]"), "{head}");
    let detail = text(&tab, "#detail");
    for said in [
        "the server gave up at 11:32:38, the client learnt of it at 11:32:38",
        "Times are by the clock of web-1; that of db-1 is 12 ms ahead.",
        // What the server saw at .809 by its clock.
        "11:11:58.797",
    ] {
        assert!(detail.contains(said), "{said} is not in\n{detail}");
    }
    let columns = "const of = (column) => [...document.querySelectorAll(`.timeline tbody td:nth-child(${column})`)].filter((it) => it.innerText).length; \
        return [of(4), of(5)]";
    assert_eq!(tab.run(columns), json!([25, 25]), "each end's own in the column of its own");
}

fn zooms(driver: &Driver) {
    let tab = open(driver, "one", &reports::one());
    let whole = window(&tab);
    let seen = tab.run("const it = document.getElementById('bars').getBoundingClientRect(); return [it.left, it.top, it.width]");
    #[expect(clippy::cast_possible_truncation, reason = "pixels of a window")]
    let [left, top, width] = [0, 1, 2].map(|at| seen[at].as_f64().expect("a number") as i64);
    tab.drag([left + width / 2, top + 60], [left + width * 3 / 4, top + 60]);
    drawn(&tab);
    let quarter = window(&tab);
    assert!(quarter.ends_with("5 min 35 s"), "a quarter of {whole} is {quarter}");
    let keys = |keys: &str| {
        tab.keys("#lanes", keys);
        drawn(&tab);
        window(&tab)
    };
    // Into milliseconds, where the axis has them.
    assert!(keys("++++++++++++++++++++++++++++").ends_with(" ms"));
    assert_ne!(keys("\u{e014}"), quarter, "the right arrow key moves it");
    assert_eq!(keys("0"), whole);
    // Down and Enter open the first lane, Escape closes it.
    keys("\u{e015}\u{e007}");
    assert_eq!(tab.run("return document.getElementById('detail').hidden"), false);
    keys("\u{e00c}");
    assert_eq!(tab.run("return document.getElementById('detail').hidden"), true);
    assert_eq!(tab.complaints(), [""; 0]);
}

fn hostile(driver: &Driver) {
    let names = [
        "</script><script>window.hacked=1</script>",
        "<!--<script>",
        "<img src=x onerror='window.hacked=1'>",
        "\"'`${window.hacked=1}\\u003c",
        "\u{2028}\u{2029}\u{1b}[2J\u{202e}gnp",
        "]]>&lt;b&gt;__proto__",
    ];
    let tab = open(driver, "hostile", &reports::hostile(&names));
    assert_eq!(lanes(&tab), names.len());
    let shown = tab.run("return [...document.querySelectorAll('.lane .owner')].map((it) => it.textContent.replace(/\\[\\d+\\]$/, '')).sort()");
    let mut expected: Vec<String> =
        names.iter().map(|name| zsock_agent::record::printable(name).into_owned()).collect();
    expected.sort_by_key(|name| name.encode_utf16().collect::<Vec<_>>());
    assert_eq!(shown, json!(expected));
    tab.click(".lane .owner");
    tab.wait("!document.getElementById('detail').hidden");
    drawn(&tab);
    tab.picture("hostile");
    assert_eq!(tab.run("return typeof window.hacked"), "undefined");
    assert_eq!(tab.run("return [document.scripts.length, document.images.length, document.querySelectorAll('b b, iframe').length]"), json!([2, 0, 0]));
    let requests = tab.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    // What would slip through could not run.
    tab.run("const it = document.createElement('div'); document.body.append(it); it.innerHTML = '<img src=x onerror=\"window.hacked=1\">'; \
        const script = document.createElement('script'); script.textContent = 'window.hacked=1'; document.body.append(script)");
    drawn(&tab);
    assert_eq!(tab.run("return typeof window.hacked"), "undefined");
    let complaints = tab.complaints().join("\n");
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
}

fn many(driver: &Driver) {
    let report = reports::week(10_000);
    let bytes = fs::metadata(page("week", &report)).expect("it was written").len();
    println!("the page of 10,000 sockets takes {bytes} bytes");
    assert!(bytes < 40_000_000, "{bytes}");
    let tab = open(driver, "week", &report);
    println!("ready after {} ms", tab.run("return Math.round(performance.now())"));
    tab.picture("week");
    // With a lane for each of the three destinations in each of the four parts, of which an idle time-out is inferred.
    assert_eq!(text(&tab, "#count"), "10,012 of 10,012 lanes");
    let few = lanes(&tab).as_u64().expect("a number");
    assert!((10..60).contains(&few), "{few} lanes are in sight, and only they are there");
    tab.run("document.getElementById('lanes').scrollTop = 1e9");
    drawn(&tab);
    let frame = tab.run_to_end(
        "let frames = 0; const began = performance.now(); const scroll = () => { document.getElementById('lanes').scrollTop -= 3000; \
         frames += 1; if (frames < 30) requestAnimationFrame(scroll); else done((performance.now() - began) / 30) }; scroll()",
    );
    println!("scrolled at {frame} ms a frame");
    tab.run("document.getElementById('lanes').scrollTop = 1e9");
    drawn(&tab);
    assert!(lanes(&tab).as_u64().is_some_and(|few| few < 60), "none of those above is there any more");
    assert!(text(&tab, "#rows").contains(":39999 → "), "{}", text(&tab, "#rows"));
    let filtering = tab.run(
        "const it = document.getElementById('by-text'), began = performance.now(); it.value = 'checkout['; it.dispatchEvent(new Event('input')); \
         return performance.now() - began",
    );
    println!("filtered after {filtering} ms");
    drawn(&tab);
    assert_eq!(text(&tab, "#count"), "2,500 of 10,012 lanes");
    assert!(!text(&tab, "#rows").contains("mailer"));
    tab.click("#by-window");
    tab.run("for (let i = 0; i < 12; i++) document.getElementById('in').click()");
    drawn(&tab);
    let count = text(&tab, "#count");
    let of_window: u64 = count.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
    assert!((1..500).contains(&of_window), "{count}");
    tab.picture("week-window");
    assert_eq!(tab.complaints(), [""; 0]);
}

fn nothing(driver: &Driver) {
    for (name, report) in [("nothing", reports::nothing()), ("empty", Report::default())] {
        let tab = open(driver, name, &report);
        tab.picture(name);
        assert_eq!(lanes(&tab), 0);
        assert!(text(&tab, "#incidents").contains("No socket was in trouble in what was read."));
        assert_eq!(tab.complaints(), [""; 0]);
    }
}

fn schemes(driver: &Driver) {
    let tab = open(driver, "gallery", &reports::gallery());
    // WCAG's contrast of every colour that text or a sign has on the ground, and of text on panels.
    let contrasts = "const style = getComputedStyle(document.documentElement); \
        const light = (name) => { const hex = style.getPropertyValue(name).trim().slice(1); \
          const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); \
          return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
        const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort(); return (y + 0.05) / (x + 0.05); }; \
        const names = ['ink', 'faint', 'critical', 'warning', 'info', 'good', 'open', 'opening', 'closing', 'waiting', 'listening', 'unknown']; \
        return Object.fromEntries(names.flatMap((name) => [[name, contrast(`--${name}`, '--ground')], \
          ...(['ink', 'faint', 'critical', 'warning', 'info'].includes(name) ? [[`${name} on panel`, contrast(`--${name}`, '--panel')]] : [])]))";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        tab.prefer(scheme);
        drawn(&tab);
        for (name, contrast) in tab.run(contrasts).as_object().expect("an object") {
            assert!(
                contrast.as_f64().is_some_and(|it| it >= 4.5),
                "{scheme}: {name} has a contrast of {contrast}"
            );
        }
        tab.click(".lane .owner");
        drawn(&tab);
        tab.picture(&format!("gallery-{scheme}"));
        let colour = "const it = document.getElementById('bars').getContext('2d').getImageData(0, 0, 700, 25).data; const seen = {}; \
            for (let at = 0; at < it.length; at += 4) if (it[at + 3] === 255) { const key = it.slice(at, at + 3).join(); seen[key] = (seen[key] ?? 0) + 1 } \
            return [getComputedStyle(document.body).backgroundColor, Object.entries(seen).sort((a, b) => b[1] - a[1])[0][0]]";
        grounds.push(tab.run(colour));
    }
    assert_eq!(grounds[0][0], "rgb(255, 255, 255)");
    assert_eq!(grounds[1][0], "rgb(18, 23, 29)");
    assert_ne!(grounds[0][1], grounds[1][1], "what is drawn changes with it");
}
