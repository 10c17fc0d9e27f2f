//! What can be said of a container's interfaces on bridges of the host.

use clap::Args;

const INTERFACES: &str = "Interfaces on bridges";

/// Interfaces of a container. What is none is refused by `engine::interfaces`.
#[derive(Debug, Default, Clone, Args)]
pub struct Interfaces {
    /// Another interface: ethN, with a MAC address behind a comma or without; may be repeated
    #[arg(long = "netif_add", alias = "netif-add", value_name = "ethN[,MAC]", help_heading = INTERFACES)]
    pub netif_add: Vec<String>,
    /// An interface that it has no more, or all; may be repeated
    #[arg(long = "netif_del", alias = "netif-del", value_name = "ethN|all", help_heading = INTERFACES)]
    pub netif_del: Vec<String>,
    /// Which interface the following are of, and --ipadd and --ipdel
    #[arg(long, value_name = "ethN", help_heading = INTERFACES)]
    pub ifname: Option<String>,
    /// The bridge of the host that it is on; '' for none
    #[arg(long, alias = "bridge", value_name = "BRIDGE", requires = "ifname", help_heading = INTERFACES)]
    pub network: Option<String>,
    /// Which VLAN of that bridge it is in, 1 to 4094; '' for none
    #[arg(long, value_name = "N", requires = "ifname", help_heading = INTERFACES)]
    pub vlan: Option<String>,
    /// Its MAC address; auto, or '', for one that is made up
    #[arg(long, value_name = "MAC", requires = "ifname", help_heading = INTERFACES)]
    pub mac: Option<String>,
    /// What its end on the host is called
    #[arg(long = "host_ifname", alias = "host-ifname", value_name = "NAME", requires = "ifname", help_heading = INTERFACES)]
    pub host_ifname: Option<String>,
    /// The MAC address of its end on the host
    #[arg(long = "host_mac", alias = "host-mac", value_name = "MAC", requires = "ifname", help_heading = INTERFACES)]
    pub host_mac: Option<String>,
    /// Its gateway; '' for none
    #[arg(long, value_name = "ADDRESS", requires = "ifname", help_heading = INTERFACES)]
    pub gw: Option<String>,
    /// Its IPv6 gateway; '' for none
    #[arg(long, value_name = "ADDRESS", requires = "ifname", help_heading = INTERFACES)]
    pub gw6: Option<String>,
    /// Whether a client of its own is to ask for an address, which nothing of ours does: yes or no
    #[arg(long, value_name = "yes|no", requires = "ifname", help_heading = INTERFACES)]
    pub dhcp: Option<String>,
    /// Whether it is kept from using other MAC addresses: yes, which is usual, or no
    #[arg(long, alias = "mac_filter", value_name = "yes|no", requires = "ifname", help_heading = INTERFACES)]
    pub macfilter: Option<String>,
    /// Whether it is kept from using other IP addresses: yes, which is usual, or no
    #[arg(long, alias = "ip_filter", value_name = "yes|no", requires = "ifname", help_heading = INTERFACES)]
    pub ipfilter: Option<String>,
    /// Accepted: every interface of this kind is on a bridge
    #[arg(long = "type", value_name = "bridged", requires = "ifname", hide = true)]
    pub kind: Option<String>,
    /// Accepted, kept, and without effect
    #[arg(long, value_name = "none|all", requires = "ifname", hide = true)]
    pub configure: Option<String>,
    /// Accepted, kept, and without effect: --dhcp is what there is
    #[arg(long, value_name = "yes|no", requires = "ifname", hide = true)]
    pub dhcp6: Option<String>,
    /// Accepted, kept, and without effect: its filters say what it hears
    #[arg(long, value_name = "yes|no", requires = "ifname", hide = true)]
    pub preventpromisc: Option<String>,
}

impl Interfaces {
    /// Nothing is said of any.
    pub fn is_empty(&self) -> bool {
        // The others belong to one that is named.
        self.netif_add.is_empty() && self.netif_del.is_empty() && self.ifname.is_none()
    }
}
