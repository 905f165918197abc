// SPDX-License-Identifier: Apache-2.0
//! One request to one answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use super::store::{Resource, Selector};

type Body = BoxBody<Bytes, Infallible>;
type Query = HashMap<String, String>;

pub async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    shared.requests.lock().unwrap().push(request.uri().to_string());
    let manners = shared.manners.lock().unwrap().clone();
    if manners.half_dead {
        future::pending::<()>().await;
    }
    tokio::time::sleep(manners.delay).await;
    if let Some(status) = manners.broken {
        return Ok(failure(status, "InternalError", "etcd is away", json!({})));
    }
    if let Some(token) = manners.token {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        if given != Some(format!("Bearer {token}").as_bytes()) {
            return Ok(failure(401, "Unauthorized", "Unauthorized", Value::Null));
        }
    }
    let path = request.uri().path();
    if path == "/readyz" {
        return Ok(respond(StatusCode::OK, Full::from("ok").boxed()));
    }
    let Some(resource) = Resource::ALL.into_iter().find(|resource| resource.path() == path) else {
        let message = "the server could not find the requested resource";
        return Ok(failure(404, "NotFound", message, json!({})));
    };
    let query = query(request.uri().query().unwrap_or_default());
    let watching = query.get("watch").is_some_and(|value| value == "true");
    if manners.forbidden.contains(&resource) {
        let message = format!(
            "{plural} is forbidden: User \"system:serviceaccount:kube-system:culvert\" cannot \
             {verb} resource \"{plural}\" in API group \"{group}\" at the cluster scope",
            plural = resource.plural(),
            verb = if watching { "watch" } else { "list" },
            group = resource.group(),
        );
        return Ok(failure(403, "Forbidden", &message, json!({"kind": resource.plural()})));
    }
    if !watching {
        return Ok(list(&shared, resource, &query));
    }
    let streamed = query.contains_key("sendInitialEvents");
    if streamed && !manners.streamed_lists {
        let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: \
                       sendInitialEvents is forbidden for watch unless the WatchList feature \
                       gate is enabled";
        return Ok(failure(422, "Invalid", message, json!({})));
    }
    assert!(!streamed || query.get("resourceVersionMatch").is_some_and(|m| m == "NotOlderThan"));
    Ok(watch(shared, resource, &query))
}

fn list(shared: &Shared, resource: Resource, query: &Query) -> Response<Body> {
    let mut store = shared.store.lock().unwrap();
    let (version, all, start) = match query.get("continue").map(|token| parse_token(token)) {
        None => (store.version, store.list(resource, &selector(query)), 0),
        Some((version, start)) => match store.rest(resource, version) {
            Some(all) => (version, all.clone(), start),
            None => {
                let message = "The provided continue parameter is too old to display a \
                               consistent list result.";
                return failure(410, "Expired", message, Value::Null);
            }
        },
    };
    let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let end = start.saturating_add(limit).min(all.len());
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < all.len() {
        metadata["continue"] = token(version, end).into();
        metadata["remainingItemCount"] = (all.len() - end).into();
        if start == 0 {
            store.snapshot(resource, all.clone());
        }
    }
    let mut items = all[start..end].to_vec();
    for item in &mut items {
        // The items of a list of one kind do not repeat it.
        let item = item.as_object_mut().unwrap();
        item.remove("kind");
        item.remove("apiVersion");
    }
    let body = json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    });
    respond(StatusCode::OK, Full::from(body.to_string()).boxed())
}

fn watch(shared: Arc<Shared>, resource: Resource, query: &Query) -> Response<Body> {
    let (lines, received) = mpsc::channel(16);
    let wanted = selector(query);
    let from = query.get("resourceVersion").map_or(0, |version| version.parse().unwrap());
    let streamed = query.contains_key("sendInitialEvents");
    let timeout = query.get("timeoutSeconds").map_or(300, |seconds| seconds.parse().unwrap());
    let events = events(shared, resource, wanted, from, streamed, lines);
    tokio::spawn(async move {
        // An end of the stream that is no error, as the server's own time-out is.
        let _ = tokio::time::timeout(Duration::from_secs(timeout), events).await;
    });
    let frames = futures::stream::unfold(received, |mut received| async {
        let event: Value = received.recv().await?;
        Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), received))
    });
    respond(StatusCode::OK, BodyExt::boxed(StreamBody::new(frames)))
}

/// Feeds one watch until the client goes.
async fn events(
    shared: Arc<Shared>,
    resource: Resource,
    wanted: Selector,
    from: u64,
    streamed: bool,
    lines: mpsc::Sender<Value>,
) {
    let (mut news, mut bookmarks) = (shared.news.subscribe(), shared.bookmarks.subscribe());
    let (mut ends, mut bookmark_due) = (shared.ends.subscribe(), false);
    let (mut seen, mut batch) = (from, Vec::new());
    if streamed {
        let store = shared.store.lock().unwrap();
        seen = store.version;
        let added = store.list(resource, &wanted).into_iter();
        batch.extend(added.map(|object| json!({"type": "ADDED", "object": object})));
        batch.push(json!({"type": "BOOKMARK", "object": resource.bookmark(seen, true)}));
    }
    let oldest = shared.store.lock().unwrap().oldest;
    if seen < oldest {
        let message = format!("too old resource version: {seen} ({oldest})");
        let status = status(410, "Expired", &message, Value::Null);
        // Nobody reads it if the client has gone.
        let _ = lines.send(json!({"type": "ERROR", "object": status})).await;
        return;
    }
    loop {
        {
            let store = shared.store.lock().unwrap();
            let new = store.since(resource, seen, &wanted);
            seen = seen.max(new.last().map_or(seen, version_of));
            if !shared.manners.lock().unwrap().loses_events {
                batch.extend(new);
            }
            if std::mem::take(&mut bookmark_due) {
                seen = store.version;
                let object = resource.bookmark(seen, false);
                batch.push(json!({"type": "BOOKMARK", "object": object}));
            }
        }
        for line in batch.drain(..) {
            if lines.send(line).await.is_err() {
                return;
            }
        }
        tokio::select! {
            // In this order: what was asked for before the end is sent before it.
            biased;
            _ = news.changed() => {}
            _ = bookmarks.changed() => bookmark_due = true,
            _ = ends.changed() => return,
            () = lines.closed() => return,
        }
        if shared.manners.lock().unwrap().half_dead {
            future::pending::<()>().await;
        }
    }
}

fn version_of(event: &Value) -> u64 {
    event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if !details.is_null() {
        status["details"] = details;
    }
    status
}

fn failure(code: u16, reason: &str, message: &str, details: Value) -> Response<Body> {
    let body = status(code, reason, message, details).to_string();
    respond(StatusCode::from_u16(code).unwrap(), Full::from(body).boxed())
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CACHE_CONTROL, "no-cache, private")
        .body(body)
        .unwrap()
}

/// Opaque to clients; the real one is base64 of much the same.
fn token(version: u64, start: usize) -> String {
    format!("rv{version}start{start}")
}

fn parse_token(token: &str) -> (u64, usize) {
    let (version, start) = token.strip_prefix("rv").unwrap().split_once("start").unwrap();
    (version.parse().unwrap(), start.parse().unwrap())
}

fn selector(query: &Query) -> Selector {
    let labels = query.get("labelSelector").map_or("", String::as_str).split(',');
    let fields = query.get("fieldSelector").map(String::as_str);
    Selector {
        absent_labels: labels
            .filter(|part| !part.is_empty())
            .map(|part| part.strip_prefix('!').expect("only `!label` is known").to_owned())
            .collect(),
        fields: fields
            .into_iter()
            .flat_map(|all| all.split(','))
            .map(|part| part.split_once('=').expect("a field and its value"))
            .map(|(field, value)| (format!("/{}", field.replace('.', "/")), value.to_owned()))
            .collect(),
    }
}

fn query(text: &str) -> Query {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let pair = std::str::from_utf8(&[*high, *low]).unwrap().to_owned();
                bytes.push(u8::from_str_radix(&pair, 16).unwrap());
                rest = tail;
            }
            (b'+', _) => (bytes.push(b' '), rest = tail).1,
            _ => (bytes.push(first), rest = tail).1,
        }
    }
    String::from_utf8(bytes).unwrap()
}
