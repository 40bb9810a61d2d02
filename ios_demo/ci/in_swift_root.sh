#!/usr/bin/env bash
# Run a command in the Debian root, in the checkout's ios_demo.  Usage: in_swift_root.sh ROOT COMMAND...
# EDGE_BINDS: folders to see there as well, FOLDER:PLACE, with spaces between.
# The mounts are in a namespace of their own and go away with the command.
set -euo pipefail

root=$1
shift
export SOURCE=$(cd "$(dirname "$0")/.." && pwd) ROOT=$root
exec unshare --mount --propagation private bash -c '
  set -euo pipefail
  mkdir -p "$ROOT/proc" "$ROOT/ios_demo" "$ROOT/swift-home"
  mount --bind /proc "$ROOT/proc"
  mount --bind /dev "$ROOT/dev"
  mount --bind "$SOURCE" "$ROOT/ios_demo"
  for pair in ${EDGE_BINDS:-}; do
    mkdir -p "$ROOT${pair#*:}"
    mount --bind "${pair%%:*}" "$ROOT${pair#*:}"
  done
  exec chroot "$ROOT" /usr/bin/env HOME=/swift-home sh -c '"'"'cd /ios_demo && exec "$@"'"'"' - "$@"' - "$@"
