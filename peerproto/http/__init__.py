"""HTTP: who may, REST under ``/v1``, HAProxy's Data Plane API paths, health.

A route is added in one line, where `peerproto.http.service.HttpService` makes its `Routes`::

    routes.add("GET", "/v1/node", node.show, "The node", answers={200: NODE})

``node.show`` takes a `peerproto.http.routes.Call` and gives an `Answer`, or a Deferred or a
coroutine of one; ``None`` if it has written to ``call.request`` itself, as a stream does. What it
raises as `Problem` becomes a problem document. Who may call it was checked before:
``needs=Needs.READ`` unless another one is named.
"""
