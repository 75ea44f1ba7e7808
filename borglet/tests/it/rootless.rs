//! A borglet without root, in a group that was delegated to its user.

use std::os::unix::fs::PermissionsExt;

use crate::address::free_address;
use crate::cell::{Cell, can_run, has_version_2, is_alive, once, service};

/// What an administrator, or systemd (`Delegate=`, `User=`), does: a group that belongs to nobody, and the borglet in it as
/// nobody. Programs are where nobody gets to them, and there is a folder for its data.
const DELEGATE: &str = r#"
set -e
group=/sys/fs/cgroup/$1 program=$2
shift 2
mkdir -p "$group"
for controller in cpu cpuset io memory pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
done
for name in . cgroup.procs cgroup.subtree_control cgroup.threads; do
    chown 65534:65534 "$group/$name"
done
mount --bind "${program%/*}" /mnt
before=
for word; do
    if [ "$before" = --data ]; then
        mkdir -p "$word"
        chown 65534:65534 "$word"
    fi
    before=$word
done
# At the first start in the group itself; it makes one in there for itself.
if [ -d "$group/borglet" ]; then
    group=$group/borglet
fi
echo $$ >"$group/cgroup.procs"
exec setpriv --reuid 65534 --regid 65534 --clear-groups "/mnt/${program##*/}" "$@"
"#;

#[test]
#[allow(clippy::print_stderr, reason = "whoever runs the tests reads it")]
fn limits_hold_without_root_and_tasks_are_found_again() {
    if !can_run() {
        return;
    }
    if !has_version_2() {
        eprintln!(
            "skipped: groups of version 1 are not delegated; the guest with version 2 runs this"
        );
        return;
    }
    let mut cell = Cell::new(0);
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(cell.folder.path(), open).unwrap();
    let group = format!("delegated-{}", std::process::id());
    let before = ["unshare", "-m", "sh", "-c", DELEGATE, "sh", &group];
    cell.add_machine(&free_address(), &[], before.map(str::to_owned).to_vec());
    cell.wait_for_machines();
    cell.submit(&service("stays", 1));
    cell.wait("stays", "running");
    let pid = cell.pid("stays/0");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&format!("/{group}/cell-manager/")), "{groups}");
    cell.submit(&once("hog", &["python3", "-c", "x = bytearray(1 << 30); print('unreachable')"]));
    assert!(cell.cause("hog").contains("out of memory"), "{}", cell.cause("hog"));
    cell.machines[0].kill();
    assert!(is_alive(pid));
    cell.machines[0].start();
    cell.submit(&once("after", &["true"]));
    cell.wait("after", "finished");
    assert_eq!(cell.pid("stays/0"), pid);
    cell.borgcfg(&["kill", "stays"]).out();
    cell.wait("stays", "killed");
    assert!(!is_alive(pid));
}
