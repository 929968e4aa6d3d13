//! CPU time, context switches and memory of processes, from /proc.
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;

/// Processes counted as one, such as nginx's master and workers.
pub struct Group {
    pub name: String,
    pub pids: Vec<u32>,
}

impl Group {
    /// From `NAME=PID,PID`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, pids) = text.split_once('=')?;
        let pids = pids.split(',').map(|p| p.parse().ok()).collect::<Option<_>>()?;
        Some(Self { name: name.to_owned(), pids })
    }
}

#[derive(Default, Clone, Copy)]
struct Usage {
    user_ticks: u64,
    sys_ticks: u64,
    /// Of the live threads. Exact, unlike ticks, which count in steps of 10 ms.
    run_ns: u64,
    switches: u64,
    rss_kb: u64,
    peak_kb: u64,
}

pub struct Snapshot {
    at: Instant,
    groups: Vec<Usage>,
    machine_ticks: u64,
}

/// Resets VmHWM. Without permission to do so, the peak is that since the process started.
pub fn reset_peaks(groups: &[Group]) {
    for pid in groups.iter().flat_map(|g| &g.pids) {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

pub fn snapshot(groups: &[Group]) -> Snapshot {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    Snapshot {
        at: Instant::now(),
        groups: groups.iter().map(|g| usage(&g.pids)).collect(),
        machine_ticks: busy_ticks(&stat),
    }
}

/// `{"procs": {NAME: {...}}, "other_cores": ...}`: the usage of each group per request, and of
/// everything else.
pub fn between(groups: &[Group], before: &Snapshot, after: &Snapshot, requests: u64) -> Value {
    let seconds = (after.at - before.at).as_secs_f64();
    let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
    let each = |total: f64| total / requests.max(1) as f64;
    let mut procs = serde_json::Map::new();
    let mut ours = 0.0;
    for (group, (b, a)) in groups.iter().zip(before.groups.iter().zip(&after.groups)) {
        let user = (a.user_ticks - b.user_ticks) as f64 * tick;
        let sys = (a.sys_ticks - b.sys_ticks) as f64 * tick;
        let run = a.run_ns.saturating_sub(b.run_ns) as f64 / 1e9;
        ours += user + sys;
        let one = json!({
            "us": each(run * 1e6), "user_us": each(user * 1e6), "sys_us": each(sys * 1e6), "cores": run / seconds,
            "switches": each(a.switches.saturating_sub(b.switches) as f64), "rss_kb": a.rss_kb, "peak_kb": a.peak_kb,
        });
        procs.insert(group.name.clone(), one);
    }
    let machine = (after.machine_ticks - before.machine_ticks) as f64 * tick;
    json!({"procs": procs, "other_cores": ((machine - ours) / seconds).max(0.0)})
}

fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (user, sys) = cpu_ticks(&read("stat"));
        sum.user_ticks += user;
        sum.sys_ticks += sys;
        let status = read("status");
        sum.rss_kb += field(&status, "VmRSS:");
        sum.peak_kb += field(&status, "VmHWM:");
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            sum.run_ns += read("schedstat").split(' ').next().and_then(|v| v.parse().ok()).unwrap_or(0);
            let status = read("status");
            sum.switches +=
                field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
        }
    }
    sum
}

fn field(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time of a process. Its name, in parentheses, may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> (u64, u64) {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let number = |index| rest.split(' ').nth(index).and_then(|v| v.parse().ok()).unwrap_or(0);
    (number(11), number(12))
}

/// The sum of user, nice, system, irq and softirq of all CPUs.
fn busy_ticks(stat: &str) -> u64 {
    let numbers: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .map(|v| v.parse().unwrap_or(0))
        .collect();
    [0, 1, 2, 5, 6].iter().filter_map(|&i| numbers.get(i)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0";
        assert_eq!(cpu_ticks(stat), (111, 222));
    }

    #[test]
    fn fields_and_groups() {
        assert_eq!(field("VmPeak:\t 9 kB\nVmHWM:\t  42 kB\n", "VmHWM:"), 42);
        assert_eq!(field("", "VmHWM:"), 0);
        assert_eq!(Group::parse("x=1,2").unwrap().pids, [1, 2]);
        assert!(Group::parse("x=one").is_none());
    }

    #[test]
    fn idle_and_iowait_are_not_work() {
        assert_eq!(busy_ticks("cpu  1 2 4 800 900 8 16 0\n"), 31);
    }

    #[test]
    fn this_process_has_used_something() {
        let me = [Group { name: "me".into(), pids: vec![std::process::id()] }];
        let (a, b) = (snapshot(&me), snapshot(&me));
        assert!(between(&me, &a, &b, 1)["procs"]["me"]["rss_kb"].as_u64().unwrap() > 0);
    }
}
