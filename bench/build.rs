//! Generates the code of the peers that have a schema.

fn main() {
    #[cfg(feature = "peers")]
    peers::generate();
    println!("cargo:rerun-if-changed=proto");
}

#[cfg(feature = "peers")]
mod peers {
    use std::{env, fs, path::Path};

    pub fn generate() {
        // tonic: messages by prost, needs `protoc`.
        tonic_prost_build::compile_protos("proto/peer.proto").expect("tonic codegen");
        connectrpc();
        ttrpc();
        varlink_generator::cargo_build("proto/org.bench.rpc.varlink");
    }

    /// Messages by buffa, needs `protoc`; without JSON.
    fn connectrpc() {
        let out = Path::new(&env::var("OUT_DIR").unwrap()).join("connectrpc");
        fs::create_dir_all(&out).unwrap();
        connectrpc_build::Config::new()
            .files(&["proto/peer.proto"])
            .includes(&["proto"])
            .out_dir(out)
            .include_file("include.rs")
            .generate_json(false)
            .compile()
            .expect("connectrpc codegen");
    }

    /// A parser of its own, messages by rust-protobuf, in a folder of their own.
    fn ttrpc() {
        let out = Path::new(&env::var("OUT_DIR").unwrap()).join("ttrpc");
        fs::create_dir_all(&out).unwrap();
        ttrpc_codegen::Codegen::new()
            .out_dir(&out)
            .input("proto/ttrpc/peer_ttrpc_msgs.proto")
            .include("proto/ttrpc")
            .rust_protobuf()
            .customize(ttrpc_codegen::Customize {
                async_all: true,
                gen_mod: true,
                ..Default::default()
            })
            .rust_protobuf_customize(ttrpc_codegen::ProtobufCustomize::default().gen_mod_rs(true))
            .run()
            .expect("ttrpc codegen");
        // Its own mod.rs starts with an inner attribute, which `include!` cannot take.
        let modules = "pub mod peer_ttrpc_msgs;\npub mod peer_ttrpc_msgs_ttrpc;\n";
        fs::write(out.join("include.rs"), modules).unwrap();
    }
}
