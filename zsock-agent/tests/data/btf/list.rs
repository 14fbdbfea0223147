// Written by `cargo xtask btf`.
&[
    ("5.10.0-46-cloud-amd64", include_bytes!("5.10.0-46-cloud-amd64.btf.zst")),
    ("6.1.0-56-cloud-amd64", include_bytes!("6.1.0-56-cloud-amd64.btf.zst")),
    ("6.12.118+deb13-cloud-amd64", include_bytes!("6.12.118+deb13-cloud-amd64.btf.zst")),
    ("6.18.15+deb13-cloud-amd64", include_bytes!("6.18.15+deb13-cloud-amd64.btf.zst")),
    ("7.3.4+deb13-cloud-amd64", include_bytes!("7.3.4+deb13-cloud-amd64.btf.zst")),
]
