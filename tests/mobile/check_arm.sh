#!/bin/sh
# Golden answers on this processor, then on an emulated ARM processor with KleidiAI and without.
# `check_arm.sh BIN BUNDLE`, BIN with python in it.  Debian only: takes an emulator (10 or later, older ones compute
# the 8-bit matrix instructions wrongly) and a Python for ARM from its packages, 0.8 GB in build/arm.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "$1" && pwd)
bundle=$(cd "$2" && pwd)
arm=$root/build/arm
release=trixie
processor=cortex-a710 # has dot products, i8mm and SVE, as phones of today

fetch() {
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -1)
    mkdir -p "$arm/lists/amd64/partial" "$arm/lists/arm64/partial" "$arm/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$arm/sources.list"
    cd "$arm/debs"
    packages amd64 qemu-user
    packages arm64 libc6 libstdc++6 libgcc-s1 python3.13-minimal libpython3.13-minimal libpython3.13-stdlib \
        zlib1g libexpat1 libssl3t64 libffi8 liblzma5 libbz2-1.0
    for file in *.deb; do dpkg -x "$file" "$arm/root"; done
    [ -e "$arm/root/lib" ] || ln -s usr/lib "$arm/root/lib"
    version=$("$bin/python" -c 'import onnxruntime; print(onnxruntime.__version__)')
    "$bin/python" -m pip install -q --no-deps --only-binary=:all: --python-version 313 --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 --target "$arm/site" \
        "onnxruntime==$version" numpy protobuf flatbuffers packaging msgspec
    touch "$arm/ready"
}

# packages ARCHITECTURE NAME...: download into this folder, without touching the machine's own package lists.
packages() {
    architecture=$1
    shift
    set -- -o "Dir::Etc::sourcelist=$arm/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::status=/dev/null \
        -o APT::Sandbox::User=root -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" \
        -o "Dir::State::lists=$arm/lists/$architecture" -- "$@"
    options=
    while [ "$1" != -- ]; do options="$options $1"; shift; done
    shift
    apt-get -qq $options update
    apt-get -qq $options download "$@"
}

emulated() {
    PYTHONPATH=$arm/site PYTHONDONTWRITEBYTECODE=1 "$arm/root/usr/bin/qemu-aarch64" -cpu $processor -L "$arm/root" \
        "$arm/root/usr/bin/python3.13" "$root/tests/mobile/check_arm.py" "$bundle" "$@"
}

[ -e "$arm/ready" ] || fetch
echo "this processor"
"$bin/python" "$root/tests/mobile/check_arm.py" "$bundle"
echo "ARM, as the bundle says"
emulated
echo "ARM, without KleidiAI"
emulated --plain
