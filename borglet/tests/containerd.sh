#!/bin/sh
# For tests of the borglet. The image is made here, as none can be pulled: a static busybox and links to it.
#
# Starts a containerd of its own under $1 (default /tmp/cri-t), with the image local/busybox:1. Its pid: $1/containerd.pid
set -eu
dir=${1:-/tmp/cri-t}
snapshotter=${SNAPSHOTTER:-overlayfs}
mkdir -p "$dir"
cat > "$dir/config.toml" <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/local/busybox:1"
  disable_tcp_service = true
  stream_server_port = "0"
  # Without CAP_SYS_RESOURCE nobody gets a lower one than containerd itself.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$dir/cni/bin"
    conf_dir = "$dir/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "$(command -v runc)"
TOML
containerd --config "$dir/config.toml" > "$dir/containerd.log" 2>&1 < /dev/null &
echo $! > "$dir/containerd.pid"
for _ in $(seq 100); do
  ctr --address "$dir/containerd.sock" version > /dev/null 2>&1 && break
  sleep 0.1
done
python3 - "$dir/busybox.tar" "$(command -v busybox)" <<'PY'
# An OCI image layout in a tar: /bin/busybox, a symlink for each of its applets, and /tmp, /etc, /proc, /sys, /dev.
import hashlib, io, json, subprocess, sys, tarfile
out, busybox = sys.argv[1:]
def add(tar, name, data=b"", kind=tarfile.REGTYPE, mode=0o755, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    tar.addfile(info, io.BytesIO(data))
def blob(data):
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"digest": "sha256:" + digest, "size": len(data)}
blobs = {}
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    for folder in ["bin", "etc", "proc", "sys", "dev", "var", "home"]:
        add(tar, folder, kind=tarfile.DIRTYPE)
    add(tar, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
    add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nann:x:1000:1000:ann:/home:/bin/sh\n", mode=0o644)
    add(tar, "etc/group", b"root:x:0:\nann:x:1000:\n", mode=0o644)
    add(tar, "bin/busybox", open(busybox, "rb").read())
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():
        if applet != "busybox":
            add(tar, "bin/" + applet, kind=tarfile.SYMTYPE, link="busybox", mode=0o777)
    # The first process of a sandbox: it takes in orphans, and ends where it is told to. As a shell, it does both.
    add(tar, "pause", b"#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 2147483647 & wait $!; done\n")
layer = layer.getvalue()
diff = "sha256:" + hashlib.sha256(layer).hexdigest()
layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(layer)}
index = []
for tag, user in [("1", ""), ("number", "1000"), ("name", "ann")]:
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]},
              "config": {"Env": ["PATH=/bin", "HOME=/of-the-image"], "Entrypoint": ["/pause"], "User": user,
                         "WorkingDir": "/var"}}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                "layers": [layer]}
    index.append({"mediaType": "application/vnd.oci.image.manifest.v1+json",
                  **blob(json.dumps(manifest).encode()), "platform": {"architecture": "amd64", "os": "linux"},
                  "annotations": {"io.containerd.image.name": "docker.io/local/busybox:" + tag,
                                  "org.opencontainers.image.ref.name": tag}})
with tarfile.open(out, "w") as tar:
    add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', mode=0o644)
    add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": index}).encode(), mode=0o644)
    for digest, data in blobs.items():
        add(tar, "blobs/sha256/" + digest, data, mode=0o644)
PY
ctr --address "$dir/containerd.sock" -n k8s.io images import --snapshotter "$snapshotter" "$dir/busybox.tar"
