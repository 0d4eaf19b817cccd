#!/bin/sh
# Cut this host off the network, keeping the responder's own way in; take that back exactly.
#
#   isolate.sh apply   --epoch N --step TEXT --management NET... [--allow FLOW...] [--spec ID] [--deadman SECONDS]
#   isolate.sh confirm --epoch N --step TEXT --ttl SECONDS          over a NEW connection, before the dead-man fires
#   isolate.sh renew   --epoch N --step TEXT --ttl SECONDS --rules SHA256 [all of apply]
#   isolate.sh undo    --epoch N --step TEXT
#   isolate.sh status
#
# NET: address or network, v4 or v6. FLOW: PROTO:ADDRESS:PORT, udp:10.0.0.53:53 or tcp:[2001:db8::1]:443.
# IRFLOW_CONNECTION: "client_ip client_port server_ip server_port" of this session; both ends are always kept open.
# Output: key=value lines. Exit: 0; 64 usage; 65 refused by the kernel; 69 no packet filter; 73 no place for state;
# 75 stale epoch, busy, or nothing left to confirm; 77 not root.
#
# The cut is one table of our own at priority -310: before conntrack, DNAT and every other table, without state, so that
# open connections die with it. It is armed by set elements with a timeout, which the kernel ends by itself: short
# until confirmed (the dead-man), then as long as the lease. Whatever happens to us, the host opens again.
set -eu
scope=isolation
. ./common.sh
unit=/etc/systemd/system/irflow-isolation.service
verb=${1:-status}
[ $# -eq 0 ] || shift
epoch='' step='' spec=none deadman=60 ttl='' rules='' management='' allow='' backend=none
drift='' confirmed='' now=0
newline='
'

# ---------------------------------------------------------------- arguments

split_flow() { # FLOW -> protocol address port
	protocol=${1%%:*} port_of_flow=${1##*:}
	address_of_flow=${1#*:}
	address_of_flow=${address_of_flow%:*}
	case $address_of_flow in
	\[*\]) address_of_flow=${address_of_flow#\[} && address_of_flow=${address_of_flow%\]} ;;
	*:*) die 64 "write an IPv6 address in brackets: '$1'" ;;
	esac
}

check_flow() { # FLOW
	split_flow "$1"
	case $protocol in tcp | udp) ;; *) die 64 "a flow is tcp:ADDRESS:PORT or udp:ADDRESS:PORT, not '$1'" ;; esac
	number allow "$port_of_flow"
	if [ "$port_of_flow" -lt 1 ] || [ "$port_of_flow" -gt 65535 ]; then die 64 "no such port: '$1'"; fi
	check_network "$address_of_flow"
}

check_connection
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--spec) spec=$2 ;;
	--deadman) number deadman "$2" && deadman=$2 ;;
	--ttl) number ttl "$2" && ttl=$2 ;;
	--rules) rules=$2 ;;
	--management) check_network "$2" && management="$management $2" ;;
	--allow) check_flow "$2" && allow="$allow $2" ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
case $spec$step$rules in *[!A-Za-z0-9_@%+=:,./\[\]-]*) die 64 "odd characters in --spec, --step or --rules" ;; esac
[ ${#spec} -le 80 ] || die 64 "--spec is longer than 80 characters"

choose_backend() {
	backend=none
	if command -v nft >/dev/null; then
		# What is likely is asked first: a call of nft costs as much as all the rest of a look.
		tables='table inet irflow' listing=''
		case $verb in apply | status) ! tables=$(nft list tables 2>/dev/null) || backend=nft ;; esac
		case $tables$newline in
		*"table inet irflow$newline"*) listing=$(nft list table inet irflow 2>/dev/null) && backend=nft && return ;;
		esac
		[ $backend = nft ] || ! nft list tables >/dev/null 2>&1 || backend=nft
	fi
	if [ $backend = none ] && command -v iptables-restore >/dev/null && iptables-save -t filter >/dev/null 2>&1; then
		backend=iptables
	fi
	if [ $backend = none ]; then
		[ "$(id -u)" = 0 ] || die 77 "root is needed (sudo -n)"
		die 69 "neither nft nor iptables works here"
	fi
}

# ---------------------------------------------------------------- nftables

nft_look() { # fills state left kind spec_seen dropped_packets dropped_bytes rules_seen from $listing
	state=absent left=0 kind='' spec_seen='' dropped_packets=0 dropped_bytes=0 rules_seen='' plain='' armed='' in_armed=0
	[ -n "$listing" ] || return 0
	while IFS= read -r line; do
		case $line in
		'	set armed {') in_armed=1 ;;
		'	}') in_armed=0 ;;
		*'counter packets '*' drop')
			numbers=${line#*packets } && numbers=${numbers% drop}
			dropped_packets=$((dropped_packets + ${numbers%% *})) dropped_bytes=$((dropped_bytes + ${numbers##* }))
			line=${line%%counter*}'counter drop'
			;;
		*) [ $in_armed = 0 ] || armed="$armed $line" ;;
		esac
		case $line in
		*"addr $peer accept" | *"addr $peer tcp flags "*) line=${line%%ip*}peer${line##*"$peer"} ;; # whichever ours is
		esac
		case $in_armed$line in 1*elements* | 1*expires*) ;; *) plain="$plain$line$newline" ;; esac
	done <<-END
		$listing
	END
	rules_seen=$(printf '%s' "$plain" | sha256sum)
	rules_seen=${rules_seen%% *}
	case $armed in *ipv4\ *ipv6\ *) ;; *) state=expired && return 0 ;; esac
	left=${armed##* expires } && seconds "${left%% *}" && left=$total
	kind=${armed##*comment \"} && kind=${kind%%\"*} && spec_seen=${kind#* }
	case $kind in deadman\ *) state=armed ;; lease\ *) state=confirmed ;; *) state=expired ;; esac
}

elements() { # kind seconds -> elements
	elements="timeout ${2}s comment \"$1 $spec\""
	elements="{ ipv4 $elements, ipv6 $elements }"
}

split_management() { # $management -> v4 and v6, each with commas
	v4='' v6=''
	for network in $management; do
		case $network in *:*) v6="$v6${v6:+, }$network" ;; *) v4="$v4${v4:+, }$network" ;; esac
	done
}

nft_flows() { # in|out -> flows: rules for --allow and for this session's own peer
	flows=''
	for flow in $allow; do
		split_flow "$flow"
		case $address_of_flow in *:*) family=ip6 ;; *) family=ip ;; esac
		case $1$protocol in
		intcp) match="tcp sport $port_of_flow $family saddr $address_of_flow tcp flags & (syn | ack) != syn" ;;
		inudp) match="udp sport $port_of_flow $family saddr $address_of_flow" ;;
		*) match="$protocol dport $port_of_flow $family daddr $address_of_flow" ;;
		esac
		flows="$flows$newline		$match accept"
	done
	case $peer in *:*) family=ip6 ;; *) family=ip ;; esac
	case $1 in
	in) flows="$flows$newline		tcp dport $port $family saddr $peer accept" ;;
	out) flows="$flows$newline		tcp sport $port $family daddr $peer tcp flags & (syn | ack) != syn accept" ;;
	esac
}

nft_table() { # elements of the armed set, maybe none -> table
	split_management
	[ -z "$v4" ] || v4="elements = { $v4 };"
	[ -z "$v6" ] || v6="elements = { $v6 };"
	nft_flows in
	flows_in=$flows
	nft_flows out
	flows_out=$flows
	table="table inet irflow {
	set management4 { type ipv4_addr; flags interval; auto-merge; $v4 }
	set management6 { type ipv6_addr; flags interval; auto-merge; $v6 }
	set armed { typeof meta nfproto; flags timeout; ${1:+elements = $1;} }
	chain input {
		type filter hook input priority -310; policy accept;
		meta nfproto != @armed return
		iif lo accept
		tcp dport $port ip saddr @management4 accept
		tcp dport $port ip6 saddr @management6 accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } ip6 hoplimit 255 accept
		icmp type destination-unreachable icmp code frag-needed accept
		icmpv6 type packet-too-big accept
		udp sport 67 udp dport 68 accept
		udp sport 547 udp dport 546 accept$flows_in
		counter drop
	}
	chain forward {
		type filter hook forward priority -310; policy accept;
		meta nfproto != @armed return
		counter drop
	}
	chain output {
		type filter hook output priority -310; policy accept;
		meta nfproto != @armed return
		oif lo accept
		tcp sport $port ip daddr @management4 tcp flags & (syn | ack) != syn accept
		tcp sport $port ip6 daddr @management6 tcp flags & (syn | ack) != syn accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept
		udp sport 68 udp dport 67 accept
		udp sport 546 udp dport 547 accept$flows_out
		counter drop
	}
}"
}

nft_apply() {
	case $state in absent | expired)
		foreign_rules >$state_dir/before.nft
		;;
	esac
	fresh='create table inet irflow'
	[ "$state" = absent ] || fresh='delete table inet irflow'
	elements deadman "$deadman"
	nft_table "$elements"
	nft -f - <<-END || die 65 "the kernel refused the rules"
		$fresh
		$table
	END
	nft_table ''
	printf 'table inet irflow\ndelete table inet irflow\n%s\n' "$table" >$state_dir/isolation.nft
}

nft_confirm() { # deleting elements that have run out fails, and the whole transaction with it: no late confirmation
	elements lease "$ttl"
	nft -f - <<-END 2>/dev/null || die 75 "nothing to confirm: not isolated, or the dead-man has fired"
		delete element inet irflow armed { ipv4, ipv6 }
		add element inet irflow armed $elements
	END
}

nft_undo() {
	if [ "$state" != absent ]; then
		nft delete table inet irflow || die 65 "the kernel refused to delete the table"
	fi
	[ -f $state_dir/before.nft ] || return 0
	restored=changed_meanwhile
	[ "$(foreign_rules)" != "$(cat $state_dir/before.nft)" ] || restored=identical
}

# ---------------------------------------------------------------- iptables: weaker (wall clock, two transactions)

families() {
	each='iptables'
	! command -v ip6tables-restore >/dev/null || each='iptables ip6tables'
}

ipt_look() {
	state=absent left=0 kind='' spec_seen='' dropped_packets=0 dropped_bytes=0 rules_seen='' plain='' jumps=0 wanted=0
	families
	for tool in $each; do
		wanted=$((wanted + 3))
		while read -r counters flag chain rest; do
			case "$flag $chain $rest" in
			-A\ IRFLOW_*DROP)
				counters=${counters#\[} && counters=${counters%\]}
				dropped_packets=$((dropped_packets + ${counters%:*})) dropped_bytes=$((dropped_bytes + ${counters#*:}))
				plain="$plain$tool $chain $rest$newline"
				;;
			-A\ IRFLOW_*"-"[sd]" $peer/"*" -p tcp "*) plain="$plain$tool $chain peer ${rest##*/}$newline" ;;
			-A\ IRFLOW_*) plain="$plain$tool $chain $rest$newline" ;;
			-A\ *irflow:*-j\ IRFLOW_*) jumps=$((jumps + 1)) mark=${rest#*irflow:} && mark=${mark%%[\" ]*} ;;
			esac
		done <<-END
			$("$tool-save" -c -t filter)
		END
	done
	[ -n "$plain" ] || return 0
	rules_seen=$(printf '%s' "$plain" | sha256sum) && rules_seen=${rules_seen%% *}
	state=expired
	[ $jumps = $wanted ] || return 0
	now=$(date +%s)
	kind=${mark%%:*} && mark=${mark#*:} && left=$((${mark%%:*} - now)) spec_seen=${mark#*:}
	[ $left -gt 0 ] || { left=0 && return 0; }
	case $kind in deadman) state=armed ;; lease) state=confirmed ;; esac
}

ipt_jumps() { # tool kind seconds -> jumps: lines that take out the old jumps and put in new ones
	jumps='' now=$(date +%s)
	until_=$((now + $3))
	stop=$(date -u -d "@$until_" +%Y-%m-%dT%H:%M:%S)
	while read -r flag rest; do
		case "$flag $rest" in -A\ *-j\ IRFLOW_*) jumps="$jumps-D $rest$newline" ;; esac
	done <<-END
		$($1 -w 5 -S | grep -v '^-A IRFLOW_')
	END
	[ -n "$2" ] || return 0
	for pair in INPUT:IN FORWARD:FORWARD OUTPUT:OUT; do
		jumps="$jumps-I ${pair%:*} 1 -m time --datestop $stop -m comment --comment irflow:$2:$until_:$spec"
		jumps="$jumps -j IRFLOW_${pair#*:}$newline"
	done
}

ipt_rules() { # tool -> rules_: the chains
	split_management
	rules_="-A IRFLOW_IN -i lo -j ACCEPT$newline-A IRFLOW_OUT -o lo -j ACCEPT$newline"
	case $1 in iptables) networks=$v4 other=: ;; *) networks=$v6 other=. ;; esac
	case $peer in *"$other"*) ;; *) networks="$networks, $peer" ;; esac
	for network in $(printf '%s' "$networks" | tr , ' '); do
		rules_="$rules_-A IRFLOW_IN -s $network -p tcp --dport $port -j ACCEPT$newline"
		rules_="$rules_-A IRFLOW_OUT -d $network -p tcp --sport $port ! --syn -j ACCEPT$newline"
	done
	for flow in $allow; do
		split_flow "$flow"
		case $address_of_flow in *"$other"*) continue ;; esac
		case $protocol in tcp) answer='! --syn' ;; *) answer='' ;; esac
		rules_="$rules_-A IRFLOW_IN -s $address_of_flow -p $protocol --sport $port_of_flow $answer -j ACCEPT$newline"
		rules_="$rules_-A IRFLOW_OUT -d $address_of_flow -p $protocol --dport $port_of_flow -j ACCEPT$newline"
	done
	if [ "$1" = iptables ]; then
		rules_="$rules_-A IRFLOW_IN -p icmp --icmp-type fragmentation-needed -j ACCEPT$newline"
		rules_="$rules_-A IRFLOW_IN -p udp --sport 67 --dport 68 -j ACCEPT$newline"
		rules_="$rules_-A IRFLOW_OUT -p udp --sport 68 --dport 67 -j ACCEPT$newline"
	else
		for type in IN:2 IN:134 IN:135 IN:136 OUT:133 OUT:135 OUT:136; do
			rules_="$rules_-A IRFLOW_${type%:*} -p icmpv6 --icmpv6-type ${type#*:} -j ACCEPT$newline"
		done
	fi
	for chain in IN FORWARD OUT; do rules_="$rules_-A IRFLOW_$chain -j DROP$newline"; done
}

ipt_plain() { # all rules but ours, without counters and empty chains
	families
	for tool in $each; do
		"$tool-save" | sed -n 's/\[[0-9:]*\]//; /IRFLOW_/d; /IRBLOCK_/d; /^:.* ACCEPT/d; /^[-:]/p'
	done
}

ipt_apply() {
	case $state in absent | expired) ipt_plain >$state_dir/before.iptables ;; esac
	families
	for tool in $each; do
		ipt_jumps "$tool" deadman "$deadman"
		ipt_rules "$tool"
		printf '*filter\n:IRFLOW_IN - [0:0]\n:IRFLOW_FORWARD - [0:0]\n:IRFLOW_OUT - [0:0]\n%s%sCOMMIT\n' \
			"$rules_" "$jumps" | "$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
}

ipt_confirm() {
	case $state in armed | confirmed) ;; *) die 75 "nothing to confirm: not isolated, or the dead-man has fired" ;; esac
	families
	for tool in $each; do
		ipt_jumps "$tool" lease "$ttl"
		printf '*filter\n%sCOMMIT\n' "$jumps" | "$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
}

ipt_undo() {
	families
	for tool in $each; do
		ipt_jumps "$tool" '' 0
		for chain in IN FORWARD OUT; do
			! "$tool" -w 5 -n -L IRFLOW_$chain >/dev/null 2>&1 ||
				jumps="$jumps-F IRFLOW_$chain$newline-X IRFLOW_$chain$newline"
		done
		printf '*filter\n%sCOMMIT\n' "$jumps" | "$tool-restore" -w 5 --noflush || die 65 "$tool refused the rules"
	done
	[ -f $state_dir/before.iptables ] || return 0
	restored=changed_meanwhile
	[ "$(ipt_plain)" != "$(cat $state_dir/before.iptables)" ] || restored=identical
}

# ---------------------------------------------------------------- after a boot or a reload of the firewall

# shellcheck disable=SC2016 # expanded when it runs
rearm='#!/bin/sh
# irflow: cut this host off again for what is left of its lease, unless it is
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /var/lib/irflow
if command -v flock >/dev/null; then exec 9>>isolation.lock && flock -w 10 9; fi
read -r until ttl spec <isolation.lease || exit 0
left=$((until - $(date +%s)))
[ $left -gt 0 ] || exit 0
[ $left -le "$ttl" ] || left=$ttl # the clock was set back
case $(nft list set inet irflow armed 2>/dev/null) in *ipv4*) exit 0 ;; esac
{
	cat isolation.nft
	echo "add element inet irflow armed { ipv4 timeout ${left}s comment \"lease $spec\" }"
	echo "add element inet irflow armed { ipv6 timeout ${left}s comment \"lease $spec\" }"
} | nft -f -
'

keep_after_boot() { # the seconds left survive in a file; systemd, where it runs, reads it
	now=$(date +%s)
	printf '%s %s %s\n' $((now + ttl)) "$ttl" "$spec" >$state_dir/isolation.lease || return 1
	printf '%s' "$rearm" >$state_dir/rearm || return 1
	[ -d /run/systemd/system ] || return 0
	mkdir -p ${unit%/*} || return 1
	cat >$unit <<-'END' || return 1
		[Unit]
		Description=irflow host isolation
		DefaultDependencies=no
		After=local-fs.target nftables.service
		Before=network-pre.target
		Wants=network-pre.target
		PartOf=nftables.service
		ReloadPropagatedFrom=nftables.service
		[Service]
		Type=oneshot
		RemainAfterExit=yes
		ExecStart=/bin/sh /var/lib/irflow/rearm
		ExecReload=/bin/sh /var/lib/irflow/rearm
		[Install]
		WantedBy=sysinit.target nftables.service
	END
	in_background 'systemctl daemon-reload; systemctl enable -q irflow-isolation; systemctl start irflow-isolation'
}

forget_after_boot() {
	rm -f /var/lib/irflow/isolation.lease $state_dir/isolation.nft $state_dir/isolation.lease $state_dir/rearm $state_dir/before.nft \
		$state_dir/before.iptables
	[ -f $unit ] || return 0
	systemctl disable -q irflow-isolation || :
	rm -f $unit
	in_background 'systemctl stop irflow-isolation; systemctl daemon-reload'
}

in_background() { # systemd may take seconds, and nothing here depends on it
	sh -c "$1" </dev/null >/dev/null 2>&1 9>&- &
}

# ---------------------------------------------------------------- verbs

look() {
	choose_backend
	case $backend$verb in
	nftconfirm) if [ -n "$confirmed" ]; then nft_look; else state=''; fi ;; # before, the kernel itself checks
	nft*) nft_look ;;
	iptables*) ipt_look ;;
	esac
}

report() {
	remains=no # what would cut the host off again after a boot
	if [ -e /var/lib/irflow/isolation.lease ] || [ -e $unit ]; then remains=yes; fi
	printf 'remains=%s\n' $remains
	boot_mark
	printf 'backend=%s\nstate=%s\nleft=%s\nspec=%s\nrules=%s\ndropped_packets=%s\ndropped_bytes=%s\n' \
		$backend "$state" "$left" "$spec_seen" "$rules_seen" "$dropped_packets" "$dropped_bytes"
}

apply_now() {
	[ -n "$management" ] || die 64 "no management network given: nobody would get in any more"
	case $backend in nft) nft_apply ;; iptables) ipt_apply ;; esac
}

confirm_now() {
	[ "${ttl:-0}" -gt 0 ] || die 64 "$verb needs --ttl"
	case $backend in nft) nft_confirm ;; iptables) ipt_confirm ;; esac
	confirmed=1 persistence=none
	if [ $backend = nft ] && [ $state_dir = /var/lib/irflow ]; then
		if keep_after_boot; then persistence=kept; else persistence=failed; fi # the cut itself stands
	fi
	look
}

renew_now() { # prolong what is as we left it, else cut again; that one has to be confirmed
	case $state in
	absent | expired) drift=$state ;;
	*) [ -z "$rules" ] || [ "$rules_seen" = "$rules" ] || drift=rules_changed ;;
	esac
	if [ -z "$drift" ] && [ "$state" = confirmed ]; then
		confirm_now
		echo renewed=prolonged
	else
		apply_now
		look
		printf 'renewed=armed\ndrift=%s\n' "$drift"
	fi
	report
}

case $verb in apply | confirm | renew | undo | status) ;; *) die 64 "unknown verb '$verb'" ;; esac
if [ "$verb" != status ]; then
	[ -n "$epoch" ] || die 64 "$verb needs --epoch"
	[ -w / ] || [ "$(id -u)" = 0 ] || die 77 "root is needed (sudo -n)"
	choose_state
	take_lock
	fence "$scope"
fi
look
case $verb in
apply)
	was=$state
	apply_now
	printf 'backend=%s\nstate=armed\nleft=%s\nwas=%s\n' $backend "$deadman" "$was"
	;;
confirm)
	confirm_now
	report
	echo persistence=$persistence
	;;
renew) renew_now ;;
undo)
	restored=nothing was=$state
	case $backend in nft) nft_undo ;; iptables) ipt_undo ;; esac
	forget_after_boot
	look
	printf 'was=%s\nrestored=%s\n' "$was" $restored
	report
	;;
status) report ;;
esac
