//! The implementation that the derive writes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, Result, Type, parse_quote};

use crate::attributes::{Attributes, refuse_union};

pub(crate) fn command(input: &DeriveInput) -> Result<TokenStream> {
    refuse_union(input)?;
    let Attributes { name, text, progress, reply, fault, read_only, library } =
        Attributes::read(input)?;
    let library = library.unwrap_or_else(|| parse_quote!(::kakehi::command));
    let [progress, reply, fault] = [progress, reply, fault].map(or_nothing);
    let unit = matches!(&input.data, Data::Struct(data) if matches!(data.fields, Fields::Unit));
    let ident = &input.ident;
    let (generics, arguments, condition) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #library::Command for #ident #arguments #condition {
            const NAME: &'static ::core::primitive::str = #name;
            const UNIT: ::core::primitive::bool = #unit;
            const TEXT: &'static ::core::primitive::str = #text;
            const READ_ONLY: ::core::primitive::bool = #read_only;
            type Progress = #progress;
            type Reply = #reply;
            type Fault = #fault;

            fn schemas() -> #library::Schemas {
                #library::__schemas!(Self, #progress, #reply, #fault)
            }
        }
    })
}

fn or_nothing(given: Option<Type>) -> Type {
    given.unwrap_or_else(|| parse_quote!(()))
}
