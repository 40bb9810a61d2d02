#!/bin/sh
# Compare ci/executorch-declarations with the classes that ExecuTorch publishes.  Its archive for Android is not on Maven
# Central; a package on npm has the same classes in a jar.  `check_declarations.sh`, after `make test-android`.
set -eu
cd "$(dirname "$0")"
package=react-native-executorch@0.9.3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "$package" >name && tar xzf "$(cat name)" package/android/libs/classes.jar)
members() { # CLASSPATH CLASS: public members with their descriptors, each on a line
    javap -public -s -cp "$1" "$2" | sed -n 's/^  \(public.*\);$/\1/p; s/^ *descriptor: //p' | sed 's/ native//; s/ throws .*//' | paste -d' ' - -
}
status=0
for class in Module EValue Tensor; do
    if [ ! -f "executorch-declarations/target/classes/org/pytorch/executorch/$class.class" ]; then
        echo "error: $class is not compiled; run make test-android first" >&2
        exit 1
    fi
    members executorch-declarations/target/classes "org.pytorch.executorch.$class" | sort >"$work/ours"
    members "$work/package/android/libs/classes.jar" "org.pytorch.executorch.$class" | sort >"$work/theirs"
    comm -23 "$work/ours" "$work/theirs" >"$work/missing"
    if [ -s "$work/missing" ]; then
        echo "org.pytorch.executorch.$class in $package has not:" >&2
        cat "$work/missing" >&2
        status=1
    fi
    echo "$class: $(wc -l <"$work/ours") members, $(wc -l <"$work/missing") not published"
done
exit $status
