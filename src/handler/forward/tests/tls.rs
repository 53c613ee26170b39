//! Whom the client trusts, and what it says where it does not.

use axum::http::Version;

use super::*;

/// An HTTPS server for `name`, and the PEM file of its authority.
async fn tls_server(name: &str, alpn: &[&[u8]]) -> (SocketAddr, tempfile::NamedTempFile, Seen) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), authority.pem()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));

    let seen = Seen::default();
    let keep = seen.clone();
    let address = by_hand(move |stream| {
        let (acceptor, seen) = (acceptor.clone(), keep.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| {
                let seen = seen.clone();
                async move {
                    let (head, body) = hyper::Request::into_parts(request);
                    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await?;
                    seen.lock().unwrap().push((head, body));
                    Ok::<_, axum::Error>(hyper::Response::new(Body::empty()))
                }
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let stream = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper_util::server::conn::auto::Builder::new(executor)
                .serve_connection(stream, service)
                .await;
        }
    })
    .await;
    (address, ca_file, seen)
}

#[tokio::test]
async fn an_internal_authority_is_trusted_by_ca_file_only() {
    let (address, ca_file, seen) = tls_server("localhost", &[]).await;
    let mut config = config(format!("https://localhost:{}/", address.port()));
    let error = forward(&config).await.unwrap_err();
    let reason = error.reason.as_str();
    assert!(
        reason.starts_with("tls: certificate of an unknown authority"),
        "{reason}"
    );
    config.ca_file = Some(ca_file.path().to_owned());
    forward(&config).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].0.version, Version::HTTP_11);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_destination_offers_it() {
    let (address, ca_file, seen) = tls_server("localhost", &[b"h2", b"http/1.1"]).await;
    let mut config = config(format!("https://localhost:{}/", address.port()));
    config.ca_file = Some(ca_file.path().to_owned());
    forward_delivery(&config, &delivery(b"{\"a\":1}"))
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0.version, Version::HTTP_2);
    assert_eq!(&seen[0].1[..], b"{\"a\":1}");
}

#[tokio::test]
async fn tls_failures_say_what_is_wrong() {
    let (address, ca_file, _) = tls_server("elsewhere.example", &[]).await;
    let mut other_name = config(format!("https://localhost:{}/", address.port()));
    other_name.ca_file = Some(ca_file.path().to_owned());
    let error = forward(&other_name).await.unwrap_err();
    let reason = error.reason.as_str();
    assert!(
        reason.starts_with("tls: certificate is for another name"),
        "{reason}"
    );

    let (plain, _) = server(|| ().into_response()).await;
    let error = forward(&config(format!("https://{plain}/")))
        .await
        .unwrap_err();
    let reason = error.reason.as_str();
    assert!(
        reason.starts_with("tls: the other side does not speak TLS"),
        "{reason}"
    );
}
