SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,  // no request to another server
  tryItOutEnabled: true,
  deepLinking: true,
  displayRequestDuration: true,
  requestInterceptor: (request) => {
    request.headers["X-Requested-With"] = "fetch"  // else the browser shows its own password dialog on a 401
    return request
  },
})
