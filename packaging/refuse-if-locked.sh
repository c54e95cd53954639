# No removal while a kill switch is engaged: without the program nothing could remove it.
# Prints the names of tunnels with a kill switch that would stay when they end.
locked() {
    if command -v nft >/dev/null; then
        nft list tables inet 2>/dev/null | sed -n 's/^table inet wontun-lock-//p'
    else
        systemctl list-units --plain --no-legend --state=active 'wontun-lock@*.service' |
            sed -n 's/^wontun-lock@\(.*\)\.service .*/\1/p'
        for file in /etc/wontun/*.env; do
            name=$(basename "$file" .env)
            if grep -qs '^WONTUN_KILL_SWITCH="\{0,1\}keep' "$file" && systemctl --quiet is-active "wontun@$name"; then
                echo "$name"
            fi
        done
    fi
}

names=$(locked | sort -u)
if [ -n "$names" ]; then
    echo "wontun: not removed, since a kill switch is engaged, and without the program nothing could remove it." >&2
    for name in $names; do
        echo "wontun: to open the network: wontun kill-switch off $name; systemctl stop wontun-lock@$name wontun@$name" >&2
    done
    exit 1
fi
