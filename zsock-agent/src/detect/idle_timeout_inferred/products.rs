//! Known products that forget idle connections, with the idle time-out that they have by default.
//!
//! Only those that tell nobody when they forget, so that the next thing sent meets a reset or silence. Servers and proxies that close
//! an idle connection with a FIN (most web servers, databases and their pools) make neither.

use std::time::Duration;

use crate::engine::How;

/// A product and its default.
struct Product {
    name: &'static str,
    timeout: Duration,
    /// It answers what is sent on a forgotten connection with a reset.
    resets: bool,
    /// It drops what is sent on a forgotten connection, or whoever gets it does.
    drops: bool,
}

const PRODUCTS: [Product; 15] = [
    // 4 min: <https://learn.microsoft.com/en-us/azure/load-balancer/load-balancer-tcp-reset>. It drops silently by default; with TCP reset
    // enabled it sends one when the time is up, not when something is sent.
    drops("Azure Load Balancer", 4 * 60),
    // 4 min, then a reset for whatever is sent: <https://learn.microsoft.com/en-us/azure/nat-gateway/nat-gateway-resource>.
    resets("Azure NAT gateway", 4 * 60),
    // 350 s: <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html>.
    resets("AWS Network Load Balancer", 350),
    // 350 s: <https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html#nat-gateway-troubleshooting-timeout>.
    resets("AWS NAT gateway", 350),
    // 350 s, then packets are dropped: <https://docs.aws.amazon.com/network-firewall/latest/APIReference/API_FlowTimeouts.html>.
    drops("AWS Network Firewall", 350),
    // 350 s on Nitro v6 and later, 5 days before:
    // <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>.
    drops("EC2 security groups", 350),
    // 10 min: <https://cloud.google.com/compute/docs/troubleshooting>.
    drops("Google Cloud VPC firewall", 10 * 60),
    // 900 s: `ipvsadm -l --timeout`; <https://github.com/moby/moby/issues/31208>. What comes later goes to any backend or to none.
    either("IPVS", 900),
    // 1,200 s: <https://cloud.google.com/nat/docs/tune-nat-configuration>.
    drops("Google Cloud NAT", 1_200),
    // 30 min: <https://juniper.net/documentation/software/junos-security/junos-security10.2/junos-security-swconfig-security/topic-41970.html>.
    drops("Juniper SRX", 30 * 60),
    // 1 h: <https://www.cisco.com/c/en/us/td/docs/security/asa/asa91/configuration/firewall/asa_91_firewall_config/conns_connlimits.html>.
    drops("Cisco ASA", 60 * 60),
    // 3,600 s:
    // <https://docs.paloaltonetworks.com/ngfw/networking/session-settings-and-timeouts/configure-session-timeouts/configure-session-timeouts-pan-os>.
    drops("Palo Alto Networks PAN-OS", 60 * 60),
    // 3,600 s: <https://community.fortinet.com/t5/FortiGate/Technical-Tip-Default-session-timeout-value-session-ttl/ta-p/194357>.
    drops("FortiGate", 60 * 60),
    // 24 h, set by kube-proxy: <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/>.
    either("conntrack on a Kubernetes node", 24 * 60 * 60),
    // 5 days: <https://kernel.org/doc/Documentation/networking/nf_conntrack-sysctl.txt>.
    either("Linux conntrack", 5 * 24 * 60 * 60),
];

/// The products that may be the reason: they behave so, their time-out is longer than what `survived`, and not longer than what died.
/// Nor is it shorter than half of that: it would be odd if nothing had idled for little more than the time-out.
pub(super) fn likely(how: How, survived: Option<Duration>, died_after: Duration) -> Option<String> {
    let fits = |product: &&Product| {
        let behaves_so = match how {
            How::Reset => product.resets,
            How::Silence => product.drops,
        };
        let is_within = Some(product.timeout) > survived && product.timeout <= died_after;
        behaves_so && is_within && product.timeout * 2 >= died_after
    };
    let names: Vec<_> = PRODUCTS.iter().filter(fits).map(|product| product.name).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

const fn resets(name: &'static str, seconds: u64) -> Product {
    Product { name, timeout: Duration::from_secs(seconds), resets: true, drops: false }
}

const fn drops(name: &'static str, seconds: u64) -> Product {
    Product { name, timeout: Duration::from_secs(seconds), resets: false, drops: true }
}

const fn either(name: &'static str, seconds: u64) -> Product {
    Product { name, timeout: Duration::from_secs(seconds), resets: true, drops: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likely_of(how: How, survived_s: Option<u64>, died_after_s: u64) -> Option<String> {
        likely(how, survived_s.map(Duration::from_secs), Duration::from_secs(died_after_s))
    }

    #[test]
    fn a_product_is_named_where_its_time_out_lies_within_the_bound() {
        let named = [
            likely_of(How::Reset, Some(349), 350),
            likely_of(How::Reset, Some(350), 360),
            likely_of(How::Reset, Some(300), 349),
            likely_of(How::Silence, Some(599), 600),
        ];
        let expected = [
            Some("AWS Network Load Balancer or AWS NAT gateway"),
            None,
            None,
            Some("Google Cloud VPC firewall"),
        ];
        assert_eq!(named, expected.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn the_way_of_dying_tells_products_apart() {
        assert_eq!(likely_of(How::Reset, Some(200), 300).as_deref(), Some("Azure NAT gateway"));
        assert_eq!(likely_of(How::Silence, Some(200), 300).as_deref(), Some("Azure Load Balancer"));
    }

    #[test]
    fn a_time_out_far_below_what_died_is_no_explanation() {
        assert_eq!(
            likely_of(How::Reset, None, 480).as_deref(),
            Some("Azure NAT gateway or AWS Network Load Balancer or AWS NAT gateway")
        );
        assert_eq!(
            likely_of(How::Reset, None, 481).as_deref(),
            Some("AWS Network Load Balancer or AWS NAT gateway")
        );
        assert_eq!(likely_of(How::Reset, Some(10), 9_000), None);
        assert_eq!(likely_of(How::Silence, None, 5), None);
    }
}
