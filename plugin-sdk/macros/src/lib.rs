//! `#[millrace::filter]` and `#[millrace::transform]`: turn one function into a component.
//!
//! Both leave the function as it is, so that it can be tested like any other, and add the component's exports beside it.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::spanned::Spanned;
use syn::{FnArg, Ident, ItemFn, Type};

/// Keeps or drops each record.
///
/// On `fn(&Record) -> bool` or `fn(&Record, &Config) -> bool`; `Result<bool, E>` refuses a record with a reason. With
/// `#[millrace::filter(batch)]`, on `fn(&Batch, &mut Keep)` or `fn(&Batch, &mut Keep, &Config)`: the fast form.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&FILTER, arguments.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Changes, drops or refuses each record.
///
/// On `fn(&Record) -> Change` or `fn(&Record, &Config) -> Change`; `Result<Change, E>` refuses a record with a reason.
/// With `#[millrace::transform(batch)]`, on `fn(&Batch, &mut Changes)` or `fn(&Batch, &mut Changes, &Config)`: the fast
/// form, which writes new values where they are sent from.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&TRANSFORM, arguments.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// The bindings of one kind, in a module `__millrace`, for who implements the exports by hand: `generate!(filter)`.
#[doc(hidden)]
#[proc_macro]
pub fn generate(input: TokenStream) -> TokenStream {
    let kind = match input.to_string().as_str() {
        "filter" => &FILTER,
        "transform" => &TRANSFORM,
        _ => return quote!(compile_error!("`filter` or `transform`");).into(),
    };
    bindings(kind).into()
}

/// What differs between the kinds of plugin: the names in the generated bindings and in the SDK.
struct Kind {
    /// The module of the bindings, of the interface in it, and the interface's function.
    name: &'static str,
    /// The world in `wit/`.
    world: &'static str,
    /// What the interface's function answers.
    answer: &'static str,
    /// The answer's fields.
    fields: &'static [&'static str],
    /// The SDK's loop over a batch's records.
    each: &'static str,
    /// The SDK's frame around a function over a whole batch.
    whole: &'static str,
}

const FILTER: Kind = Kind {
    name: "filter",
    world: "filter-plugin",
    answer: "Selection",
    fields: &["keep", "rejected"],
    each: "filter_each",
    whole: "filter_whole",
};
const TRANSFORM: Kind = Kind {
    name: "transform",
    world: "transform-plugin",
    answer: "Changes",
    fields: &["verdicts", "data", "spans", "rejected"],
    each: "transform_each",
    whole: "transform_whole",
};

fn expand(kind: &Kind, arguments: Tokens, item: Tokens) -> syn::Result<Tokens> {
    let whole_batch = is_batch_form(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    let signature = Signature::of(&function, if whole_batch { 2 } else { 1 })?;
    let config = &signature.config;
    let call = call(kind, whole_batch, &function.sig.ident, &signature);
    let (name, answer) = (ident(kind.name), ident(kind.answer));
    let fields = kind.fields.iter().map(|field| ident(field));
    let bindings = bindings(kind);
    Ok(quote! {
        #function

        #bindings

        const _: () = {
            use self::__millrace::exports::millrace::plugin::{lifecycle, #name as kind};

            struct Plugin;

            static CONFIG: ::millrace::__private::Slot<#config> = ::millrace::__private::Slot::new();

            impl lifecycle::Guest for Plugin {
                fn configure(setup: lifecycle::Setup) -> ::core::result::Result<(), ::std::string::String> {
                    CONFIG.fill(&setup.config)
                }
            }

            impl kind::Guest for Plugin {
                fn #name(batch: ::millrace::bindings::types::Batch) -> kind::#answer {
                    let config: &#config = CONFIG.get();
                    let answer = #call;
                    kind::#answer { #(#fields: answer.#fields),* }
                }
            }

            __millrace::export!(Plugin with_types_in self::__millrace);
        };
    })
}

/// The bindings of one world, in a module of the plugin's crate. They share the types of the SDK's own.
fn bindings(kind: &Kind) -> Tokens {
    let world = kind.world;
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    quote! {
        #[doc(hidden)]
        #[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
        mod __millrace {
            ::millrace::__private::wit_bindgen::generate!({
                path: #wit,
                world: #world,
                runtime_path: "::millrace::__private::wit_bindgen::rt",
                with: {
                    "millrace:plugin/types@0.1.0": ::millrace::bindings::types,
                    "millrace:plugin/logging@0.1.0": ::millrace::bindings::logging,
                    "millrace:plugin/clock@0.1.0": ::millrace::bindings::clock,
                    "millrace:plugin/random@0.1.0": ::millrace::bindings::random,
                },
            });
        }
    }
}

/// The body of the interface's function.
fn call(kind: &Kind, whole_batch: bool, function: &Ident, signature: &Signature) -> Tokens {
    let config = signature.wants_config.then(|| quote!(, config));
    let unused = (!signature.wants_config).then(|| quote!(let _ = config;));
    if whole_batch {
        let frame = ident(kind.whole);
        return quote! {{ #unused ::millrace::__private::#frame(&batch, |batch, answer| #function(batch, answer #config)) }};
    }
    let each = ident(kind.each);
    let record = if signature.borrows_record { quote!(&record) } else { quote!(record) };
    quote! {{ #unused ::millrace::__private::#each(&batch, |record| #function(#record #config)) }}
}

fn is_batch_form(arguments: Tokens) -> syn::Result<bool> {
    if arguments.is_empty() {
        return Ok(false);
    }
    let word: Ident = syn::parse2(arguments)?;
    if word == "batch" { Ok(true) } else { Err(syn::Error::new(word.span(), "the only argument is `batch`")) }
}

/// What the macro has to know of the function's parameters.
struct Signature {
    config: Tokens,
    wants_config: bool,
    borrows_record: bool,
}

impl Signature {
    /// `before`: how many parameters stand before the config.
    fn of(function: &ItemFn, before: usize) -> syn::Result<Self> {
        let types: Vec<&Type> = function
            .sig
            .inputs
            .iter()
            .map(|input| match input {
                FnArg::Typed(typed) => Ok(&*typed.ty),
                FnArg::Receiver(receiver) => Err(syn::Error::new(receiver.span(), "a plugin is a free function")),
            })
            .collect::<syn::Result<_>>()?;
        let borrows_record = matches!(types.first(), Some(Type::Reference(_)));
        let (config, wants_config) = match types.get(before) {
            None if types.len() == before => (quote!(::millrace::NoConfig), false),
            Some(Type::Reference(reference)) if types.len() == before + 1 => {
                let inner = &reference.elem;
                (quote!(#inner), true)
            }
            Some(other) if types.len() == before + 1 => {
                return Err(syn::Error::new(other.span(), "the config is taken by reference: `&Config`"));
            }
            _ => {
                let wanted = if before == 1 { "a record" } else { "a batch and its answer" };
                let message = format!("the function takes {wanted}, and after that at most a `&Config`");
                return Err(syn::Error::new(function.sig.inputs.span(), message));
            }
        };
        Ok(Self { config, wants_config, borrows_record })
    }
}

fn ident(name: &str) -> Ident {
    Ident::new(name, proc_macro2::Span::call_site())
}
