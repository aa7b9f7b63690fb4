#!/bin/bash
# Make the emulated device: an arm64 Debian 12 userland with the project's own wheel installed offline.
#
# Usage: tests/device/setup.sh FOLDER WHEEL        (PYTHON names a python3 with pip and packaging)
#   FOLDER/root        the userland; its /site holds what a device installs, its /tests-site what only the tests need
#   FOLDER/wheels      aarch64 wheels of runtime/requirements.lock, and the project's own
#   FOLDER/test-wheels aarch64 wheels of the test tools, as locked in convert/requirements.lock
#   FOLDER/cpu         what /proc/cpuinfo says on each board
# Each step is skipped where its result is there. Exit 3 with one sentence where this machine cannot.
set -euo pipefail
shopt -s nullglob
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
[ $# = 2 ] || { echo "usage: $0 FOLDER WHEEL" >&2; exit 2; }
mkdir -p "$1"
folder=$(realpath "$1")
wheel=$(realpath "$2")
root=$folder/root

say() { printf 'device: [%4ss] %s\n' "$SECONDS" "$*" >&2; }
cannot() { echo "device tests skipped: $*"; exit 3; }

[ "$(uname -sm)" = "Linux x86_64" ] || cannot "the device is emulated on Linux x86-64, and this is $(uname -sm)"
[ "$(id -u)" = 0 ] || cannot "making the emulated device needs root"
command -v apt-get >/dev/null || cannot "making the emulated device needs Debian's apt-get"

# 1. The emulators. qemu-user is the dynamic build, the only one that loads the plugin that counts instructions.
missing=()
for package in qemu-user-static qemu-user mmdebstrap; do
  dpkg -s $package >/dev/null 2>&1 || missing+=($package)
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  { apt-get -o DPkg::Lock::Timeout=300 update -qq &&
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
    cannot "apt-get could not install ${missing[*]} (no network?)"
fi

# 2. The userland. `extract` only unpacks the packages, so nothing of arm64 runs: seconds instead of minutes.
if [ ! -e "$root/.done" ]; then
  say "unpacking arm64 Debian 12"
  for try in 1 2 3; do
    rm -rf "$root"
    if mmdebstrap --quiet --variant=extract --arch=arm64 \
      --include=python3-minimal,libpython3.11-stdlib,libstdc++6,busybox-static,python3-pip-whl \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root" 2>"$folder/mmdebstrap.log"; then break; fi
    [ $try = 3 ] && cannot "Debian's arm64 packages could not be fetched (no network?); see $folder/mmdebstrap.log"
    sleep 10
  done
  mkdir -p "$root"/{proc,sys,dev,tmp,work,wheels,site,tests-site}
  for applet in sh env cat ls uname; do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done
  [ -e "$root/usr/bin/env" ] || ln -s /bin/busybox "$root/usr/bin/env"
  echo 'root:x:0:0:root:/:/bin/sh' > "$root/etc/passwd"
  # Where its Python finds what is installed, whatever a test does to PYTHONPATH.
  mkdir -p "$root/usr/local/lib/python3.11/dist-packages"
  echo /site > "$root/usr/local/lib/python3.11/dist-packages/device.pth"
  touch "$root/.done"
fi

# 3. The boards. qemu passes the host's /proc/cpuinfo on, and ai-edge-litert 2.3 crashes on an x86 one; the part number
#    also steers XNNPACK's choice of kernels.
cpuinfo() { # name, part, variant, revision, features...
  local name=$1 part=$2 variant=$3 revision=$4 number
  shift 4
  for number in 0 1 2 3; do
    printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' $number "$*"
    printf 'CPU variant\t: %s\nCPU part\t: %s\nCPU revision\t: %s\n\n' "$variant" "$part" "$revision"
  done > "$folder/cpu/$name"
}
mkdir -p "$folder/cpu" "$root/sys/devices/system/cpu"
cpuinfo pi4 0xd08 0x0 3 fp asimd evtstrm crc32 cpuid
cpuinfo pi5 0xd0b 0x4 1 fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
for list in possible present online; do echo 0-3 > "$root/sys/devices/system/cpu/$list"; done
"$here/board" -d "$folder" pi4 true 2>"$folder/board.log" ||
  cannot "this kernel gives no namespace an emulator of its own (Linux 6.7 is needed); see $folder/board.log"

# 4. The wheels, by hash, for the device's machine.
fetch() { # folder, lock, names...
  local into=$1 lock=$2 tag platforms=() pinned
  shift 2
  pinned=$into/requirements.txt
  mkdir -p "$into"
  "$python" "$here/pins.py" "$lock" "$@" > "$pinned.new"
  cmp -s "$pinned.new" "$pinned" && return
  say "fetching aarch64 wheels: $(wc -l < "$pinned.new")"
  for tag in 2014 _2_17 _2_26 _2_27 _2_28 _2_31 _2_34 _2_35 _2_36; do platforms+=(--platform manylinux${tag}_aarch64); done
  rm -f "$into"/*.whl
  "$python" -m pip --disable-pip-version-check download --quiet --require-hashes --no-deps --only-binary=:all: \
    --implementation cp --python-version 3.11 "${platforms[@]}" --dest "$into" -r "$pinned.new" >"$folder/pip.log" 2>&1 ||
    cannot "the aarch64 wheels could not be fetched (no network?); see $folder/pip.log"
  mv "$pinned.new" "$pinned"
}
fetch "$folder/wheels" "$project/runtime/requirements.lock"
fetch "$folder/test-wheels" "$project/convert/requirements.lock" pytest pytest-xdist execnet pluggy iniconfig packaging \
  pygments hypothesis sortedcontainers scipy scikit-learn joblib threadpoolctl cloudpickle narwhals

# 5. Installed by the device's own pip, with no network and no index: the proof that the set is complete.
guest_pip() { # wheels, target, requirements...
  local wheels=$1 target=$2 pip
  shift 2
  pip=$(cd "$root" && echo usr/share/python-wheels/pip-*.whl)
  GUEST_PYTHONPATH=/$pip "$here/board" -d "$folder" -W "$wheels" pi4 python3.11 -m pip --isolated install --quiet \
    --no-index --find-links /wheels --no-compile --no-cache-dir --root-user-action=ignore \
    --disable-pip-version-check --target "/$target.new" "$@"
  rm -rf "${root:?}/$target"
  mv "$root/$target.new" "$root/$target"
}
if ! cmp -s "$wheel" "$folder/wheels/$(basename "$wheel")" || [ ! -e "$root/site/.done" ]; then
  say "installing $(basename "$wheel") offline"
  rm -rf "$root/site.new" "$root/site/.done" "$folder"/wheels/edge_screen-*.whl
  cp "$wheel" "$folder/wheels"
  guest_pip "$folder/wheels" site edge-screen
  touch "$root/site/.done"
fi
if ! cmp -s "$folder/test-wheels/requirements.txt" "$root/tests-site/.done"; then
  say "installing the test tools offline"
  rm -rf "$root/tests-site.new"
  guest_pip "$folder/test-wheels" tests-site --no-deps $(sed 's/ .*//' "$folder/test-wheels/requirements.txt")
  cp "$folder/test-wheels/requirements.txt" "$root/tests-site/.done"
fi

# 6. The plugin that counts instructions, where there is a C compiler.
if [ "$here/icount.c" -nt "$folder/libicount.so" ] && command -v cc >/dev/null; then
  cc -O2 -shared -fPIC -o "$folder/libicount.so" "$here/icount.c"
fi
say "ready: $(du -sh "$folder" | cut -f1) in $folder"
