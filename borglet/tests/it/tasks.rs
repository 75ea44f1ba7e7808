//! What becomes of tasks: what they find, what they write, and how they end.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::cell::{
    Cell, SILENT_AFTER_MS, can_run, has_version_2, is_alive, once, program, said, service, until,
};

#[test]
fn a_task_finds_its_name_ports_and_limits_and_cannot_get_further() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    let script = "env | cut -c 1-100; id -u; pwd; touch /etc/mine; mount -t tmpfs x /tmp; ls /tmp; \
                  grep NoNewPrivs /proc/self/status; echo open: $(ls /proc/self/fd); \
                  echo 0 >/proc/self/oom_score_adj; echo adj: $(cat /proc/self/oom_score_adj); \
                  echo long: ${#LONG}; ps ax | wc -l; echo to-stderr >&2; exit 3";
    let mut job = once("look", &["sh", "-c", script]);
    // Longer than what a pipe holds.
    let long = "x".repeat(100_000);
    job["container"] = json!({ "ports": { "web": 0 }, "env": { "MODE": "test", "LONG": long } });
    cell.submit(&job);
    assert_eq!(cell.cause("look"), "failed: exit code 3");
    let said = cell.borgcfg(&["logs", "look/0"]);
    let out = &said.out;
    for line in ["BORG_TASK=look/0", "BORG_INDEX=0", "BORG_CPU_MILLI=100", "MODE=test", "HOME=/tmp"]
    {
        assert!(out.lines().any(|it| it == line), "{line}: {out}");
    }
    assert!(out.contains("PORT_WEB="), "{out}");
    // A user of its own, in a home of its own, which is empty, and with no way to more rights.
    assert!(out.lines().any(|it| it.parse().is_ok_and(|uid: u32| uid >= 300_000)), "{out}");
    assert!(out.contains("NoNewPrivs:\t1") && out.contains("\n/tmp\n"), "{out}");
    for refused in ["/etc/mine", "mount", "to-stderr"] {
        assert!(said.err.contains(refused), "{refused}: {said:?}");
    }
    assert!(out.contains("\nlong: 100000\n"), "{out}");
    // The last one is that by which ls looks.
    assert!(out.contains("\nopen: 0 1 2 3\n"), "{out}");
    // Where the borglet may say what is killed first, its tasks may not say otherwise (CAP_SYS_RESOURCE).
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let rights = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    if u64::from_str_radix(rights.trim(), 16).unwrap() & 1 << 24 != 0 {
        assert!(out.contains("\nadj: 950\n"), "{out}");
    }
    // It sees its own processes alone: first, shell, ps, wc, and ps's line of headings.
    let count: usize = out.lines().rev().find_map(|it| it.trim().parse().ok()).unwrap();
    assert!(count <= 6, "{out}");
}

#[test]
fn causes_are_told_apart_and_the_borglet_goes_on() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    let job = |name: &str, command: &[&str], more: serde_json::Value| {
        let mut job = once(name, command);
        for (key, value) in more.as_object().unwrap() {
            job[key] = value.clone();
        }
        cell.submit(&job);
        cell.cause(name)
    };
    let none = json!({});
    let cause = job("missing", &["no-such-program"], none.clone());
    assert!(cause.contains("no-such-program: No such file"), "{cause}");
    let cause = job("killed", &["sh", "-c", "kill -SEGV $$"], none.clone());
    assert!(cause.contains("signal 11"), "{cause}");
    let cause = job("tiny", &["true"], json!({ "limit": { "cpu": "1m", "ram": "64MiB" } }));
    assert!(cause.contains("limit.cpu of 1m is below the least, 10m"), "{cause}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cause = job("port", &["true"], json!({ "container": { "ports": { "web": port } } }));
    assert!(cause.contains(&format!("port {port} (web) is taken by someone else")), "{cause}");
    let cause = job("bundle", &["true"], json!({ "container": { "bundle": "/no/such/bundle" } }));
    assert!(cause.contains("/no/such/bundle"), "{cause}");
    let file = cell.folder.path().join("tools.tar");
    fs::write(&file, "no tarball").unwrap();
    let package = json!({ "tools": { "from": file, "sha256": "0".repeat(64) } });
    let cause = job("hash", &["true"], json!({ "container": { "packages": package } }));
    assert!(cause.contains("package \"tools\"") && cause.contains("SHA-256"), "{cause}");
    let needs = json!({ "container": { "require": ["ram-high"] } });
    if has_version_2() {
        let mut job = once("needs", &["true"]);
        job["container"] = needs["container"].clone();
        cell.submit(&job);
        cell.wait("needs", "finished");
    } else {
        let cause = job("needs", &["true"], needs);
        assert!(cause.contains("requires `ram-high`"), "{cause}");
    }
    // All that was of no consequence to others.
    cell.submit(&service("fine", 1));
    cell.wait("fine", "running");
}

#[test]
fn health_checks_gate_and_end_a_task() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    // Healthy once its file is there, and unhealthy when that is gone.
    let script = "sleep 0.3; touch /tmp/well; sleep infinity";
    let probe =
        json!({ "command": ["test", "-e", "/tmp/well"], "every_ms": 50, "failures_max": 40 });
    let mut job = once("checked", &["sh", "-c", script]);
    job["container"] = json!({ "health": { "start_up": probe,
        "live": { "command": ["test", "-e", "/tmp/well"], "every_ms": 50, "failures_max": 2 } } });
    cell.submit(&job);
    until("it is well", || {
        let task = cell.tasks("checked").remove(0);
        (task["phase"] == "running"
            && task["is_healthy"] == true
            && cell.usage("checked/0")?["healthy"] == true)
            .then_some(())
    });
    until("it was told to be ill", || {
        (cell.borgcfg(&["exec", "checked/0", "--", "rm", "-f", "/tmp/well"]).code == Some(0))
            .then_some(())
    });
    assert!(cell.cause("checked").contains("health"), "{}", cell.cause("checked"));
    // By HTTP and TCP, at a port that it was given.
    let server = "import http.server, os; http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT_WEB'])), \
                  http.server.SimpleHTTPRequestHandler).serve_forever()";
    let mut job = once("web", &["python3", "-c", server]);
    job["limit"] = json!({ "cpu": "500m", "ram": "128MiB" });
    let http = |path: &str| json!({ "http": { "port": "web", "path": path }, "every_ms": 50, "failures_max": 200 });
    job["container"] = json!({ "ports": { "web": 0 }, "health": { "start_up": http("/"),
        "live": { "tcp": "web", "every_ms": 50 } } });
    cell.submit(&job);
    until("it serves", || {
        let task = cell.tasks("web").remove(0);
        (task["phase"] == "running" && task["is_healthy"] == true).then_some(())
    });
    let mut job = once("404", &["python3", "-c", server]);
    job["limit"] = json!({ "cpu": "500m", "ram": "128MiB" });
    let mut never = http("/nothing-there");
    never["failures_max"] = json!(3);
    job["container"] = json!({ "ports": { "web": 0 }, "health": { "start_up": never } });
    cell.submit(&job);
    assert!(cell.cause("404").contains("health"));
}

#[test]
fn a_task_is_asked_to_end_and_then_made_to_with_all_its_processes() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(1);
    let polite = "trap 'echo goodbye; exit 0' TERM; while true; do sleep 0.05; done";
    let stubborn = "trap '' TERM; sleep infinity & sleep infinity & wait; sleep infinity";
    for (name, script) in [("polite", polite), ("stubborn", stubborn)] {
        let mut job = service(name, 1);
        job["run"]["command"] = json!(["sh", "-c", script]);
        cell.submit(&job);
    }
    cell.wait("polite", "running");
    cell.wait("stubborn", "running");
    let pids = [cell.pid("polite/0"), cell.pid("stubborn/0")];
    cell.borgcfg(&["kill", "polite", "stubborn"]).out();
    for job in ["polite", "stubborn"] {
        cell.wait(job, "killed");
    }
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
    assert!(cell.borgcfg(&["logs", "polite/0"]).out().contains("goodbye"));
    cell.wait_for_no_groups();
}

#[test]
fn logs_are_rotated_followed_and_kept_and_commands_run_inside() {
    if !can_run() {
        return;
    }
    let mut cell = Cell::of(
        vec![[crate::address::free_address(), crate::address::free_address()]],
        Vec::new(),
        SILENT_AFTER_MS,
    );
    let address = crate::address::free_address();
    cell.add_machine(&address, &["--log-size", "10000", "--log-files", "3"], Vec::new());
    cell.wait_for_machines();
    let script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; echo done";
    cell.submit(&once("chatty", &["sh", "-c", script]));
    let followed = cell.borgcfg(&["logs", "chatty/0", "--follow"]);
    cell.wait("chatty", "finished");
    let kept = cell.borgcfg(&["logs", "chatty/0"]).out();
    assert!(kept.len() <= 30_000 && kept.len() > 10_000, "{}", kept.len());
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines.last(), Some(&"done"));
    // What is kept is the end, without a hole.
    let numbers: Vec<u32> =
        lines.iter().filter_map(|it| it.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&4999));
    assert_eq!(cell.borgcfg(&["logs", "chatty/0", "--tail", "5"]).out(), "done\n");
    // Whether it came before, during or after: whoever followed it has seen the end.
    assert!(followed.code == Some(1) || followed.out.ends_with("done\n"), "{followed:?}");

    cell.submit(&service("shell", 1));
    cell.wait("shell", "running");
    let inside =
        cell.borgcfg(&["exec", "shell/0", "--", "sh", "-c", "echo $BORG_TASK; id -u; exit 9"]);
    assert_eq!(inside.code, Some(9), "{inside:?}");
    let lines: Vec<&str> = inside.out.lines().collect();
    assert!(lines[0] == "shell/0" && lines[1].parse::<u32>().unwrap() >= 300_000, "{inside:?}");
    let other = [("USER", "eve")];
    let mut command = std::process::Command::new(program("borgcfg"));
    command
        .args(["exec", "shell/0", "--", "true"])
        .env("BORGCFG_CELL", &cell.addresses[0])
        .envs(other);
    let refused = said(&mut command);
    assert!(
        refused.code == Some(1) && refused.err.contains("is admin's, and not eve's"),
        "{refused:?}"
    );
}

#[test]
fn a_package_is_unpacked_once_and_placement_knows_where() {
    if !can_run() {
        return;
    }
    let cell = Cell::new(2);
    let source = cell.folder.path().join("tools");
    fs::create_dir_all(source.join("bin")).unwrap();
    fs::write(source.join("bin/run"), "#!/bin/sh\necho from the package\n").unwrap();
    let chmod = said(std::process::Command::new("chmod").arg("755").arg(source.join("bin/run")));
    assert_eq!(chmod.code, Some(0));
    let hash = said(std::process::Command::new(program("borglet")).arg("hash").arg(&source)).out();
    let job = |name: &str| {
        let mut job = once(name, &["sh", "-c", "$PACKAGE_TOOLS/bin/run; touch $PACKAGE_TOOLS/x"]);
        job["container"] =
            json!({ "packages": { "tools": { "from": source, "sha256": hash.trim() } } });
        job
    };
    cell.submit(&job("first"));
    cell.wait("first", "failed");
    let said = cell.borgcfg(&["logs", "first/0"]);
    assert_eq!(said.out, "from the package\n");
    assert!(said.err.contains("Read-only"), "{said:?}");
    let holds = |machine: &crate::cell::Machine| {
        fs::read_dir(machine.data.join("packages")).unwrap().count()
    };
    assert_eq!(cell.machines.iter().map(holds).sum::<usize>(), 1);
    // The master hears of it, and the next one goes there.
    let with = cell.machines.iter().position(|machine| holds(machine) == 1).unwrap();
    let name = cell.machines[with].name.clone();
    until("the master knows", || {
        let events = cell.borgcfg(&["events"]).out();
        let changes =
            events.lines().filter(|it| it.contains(&format!("machine {name} added or changed")));
        (changes.count() == 2).then_some(())
    });
    for number in 0..3 {
        let job_name = format!("next-{number}");
        cell.submit(&job(&job_name));
        cell.wait(&job_name, "failed");
    }
    assert_eq!(cell.machines.iter().map(holds).sum::<usize>(), 1);
}
