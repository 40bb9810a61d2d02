#!/usr/bin/env bash
# Print the folder of a Debian 13 root that has Swift; build it first if it is not there.
# It is kept outside the checkout: SWIFT_ROOT, else the user's cache. 3.5 GB, about two minutes.
# Status 3 and one line on standard error where it can not be built.
set -euo pipefail

root=${SWIFT_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/gemma-edge/swift-root}
packages="swiftlang swiftlang-dev libswiftlang libc6-dev libstdc++-14-dev"

unable() {
  echo "test-ios: no Swift here: $1" >&2
  exit 3
}

if [ ! -e "$root/.ready" ]; then
  [ "$(uname -s)" = Linux ] || unable "the root is a Debian 13, which only Linux can hold"
  [ "$(id -u)" = 0 ] || unable "only root can make a Debian root in $root"
  # On a machine of CI's the tool is installed too; on a person's that is theirs to do.
  [ -z "${CI:-}" ] || command -v debootstrap >/dev/null ||
    { apt-get update && apt-get install -y --no-install-recommends debootstrap; } >&2
  command -v debootstrap >/dev/null || unable "debootstrap is not installed (apt-get install debootstrap)"
  # The mirror that apt uses already: of a .sources file, else of sources.list.
  mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | head -1)
  [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
  [ -n "$mirror" ] || unable "apt names no mirror"
  mkdir -p "$root"
  {
    debootstrap --variant=minbase trixie "$root" "$mirror" &&
      cp /etc/resolv.conf "$root/etc/resolv.conf" &&
      { cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/" || true; } &&
      unshare --mount bash -c 'mount --bind /proc "$1/proc" && chroot "$1" sh -c "
        apt-get update && apt-get install -y --no-install-recommends $2"' - "$root" "$packages"
  } >"$root.log" 2>&1 || unable "the packages can not be installed: $(tail -1 "$root.log") (all of it: $root.log)"
  rm -rf "$root/var/cache/apt/archives"
  touch "$root/.ready"
fi
echo "$root"
