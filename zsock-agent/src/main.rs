//! The command line `zsock`.
fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let mut k = zsock_agent::source::kernel::Kernel::attach(&zsock_agent::source::kernel::Options {
            all_events: true,
            buffer_bytes: 8 << 20,
            filter: zsock_common::settings::Filter::NONE,
            has_log: false,
        })
        .unwrap();
        println!("{:#?}", k.hooks());
        let ns = zsock_agent::source::namespaces::all();
        let s = std::time::Instant::now();
        k.look_at_holders(zsock_agent::source::kernel::Look::Seed).unwrap();
        println!("{:?}", k.look_at_sockets(zsock_agent::source::kernel::Look::Seed, &ns).unwrap());
        println!("{:?} {:?}", s.elapsed(), ns);
        println!("{:?}", k.counters());
        for _ in 0..10 {
            k.drain(|b| match zsock_agent::source::decode::Raw::decode(b) {
                Ok(zsock_agent::source::decode::Raw::Socket(k, r)) => println!(
                    "{k:?} {:?} {} {} d={} {} {:?}",
                    r.endpoints, r.tcp.state, r.tcp.retransmits, r.detail, r.detail2, r.actor
                ),
                o => println!("{o:?}"),
            });
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        println!("{:?}", k.counters());
    });
}
