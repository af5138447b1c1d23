//! One file per contender.

mod rawframe;

pub mod expert;
pub mod kakehi;
pub mod kakehi_router;
pub mod kakehi_sozu;
pub mod raw_tokio;

#[cfg(feature = "peers")]
mod peers {
    pub mod connectrpc;
    pub mod framed;
    pub mod raw_blocking;
    pub mod remoc;
    pub mod sozu;
    pub mod spin;
    pub mod tarpc;
    pub mod tonic;
    pub mod ttrpc;
    pub mod varlink;
    pub mod zbus;
    pub mod zlink;
}
#[cfg(feature = "peers")]
pub use peers::*;

/// Calls `$m!(Type)` for each contender, in the order of the tables.
#[macro_export]
macro_rules! for_each_contender {
    ($m:ident) => {{
        use $crate::contenders::*;
        #[cfg(feature = "peers")]
        {
            $m!(spin::ShmSpin);
            $m!(spin::UdsSpin);
            $m!(raw_blocking::RawBlocking<true>);
            $m!(raw_blocking::RawBlocking<false>);
            $m!(raw_tokio::RawTokio<false>);
            $m!(expert::Expert<true, false>);
            $m!(framed::FramedJson<framed::Len, false>);
            $m!(framed::FramedJson<framed::Len, true>);
            $m!(framed::FramedJson<framed::Nul, false>);
            $m!(framed::FramedJson<framed::Nul, true>);
        }
        $m!(raw_tokio::RawTokio<true>);
        $m!(expert::Expert<false, false>);
        $m!(expert::Expert<false, true>);
        $m!(kakehi::Kakehi<true>);
        $m!(kakehi::Kakehi<false>);
        $m!(kakehi::KakehiPool);
        $m!(kakehi_router::KakehiRouter);
        $m!(kakehi_sozu::KakehiSozu);
        #[cfg(feature = "peers")]
        {
            $m!(sozu::Sozu);
            $m!(tarpc::TarpcJson);
            $m!(tarpc::TarpcBincode);
            $m!(zlink::Zlink);
            $m!(varlink::Varlink);
            $m!(ttrpc::Ttrpc);
            $m!(tonic::Tonic<false>);
            $m!(tonic::Tonic<true>);
            $m!(connectrpc::ConnectRpc);
            $m!(remoc::Remoc);
            $m!(zbus::Zbus);
        }
    }};
}
