package main

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

// withGin is withChi with gin.
func withGin(l *limiter.Limiter) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.GET("/healthz/limiter", gin.WrapH(httplimit.Health(l)))
	limited := r.Group("/:tenant", middleware(httplimit.New(l, httplimit.Options{
		Key:        func(r *http.Request) string { return ginContext(r).Param("tenant") },
		SkipFailed: true,
	})))
	limited.GET("/hello", func(c *gin.Context) {
		res, _ := httplimit.FromContext(c.Request.Context())
		c.String(http.StatusOK, "hello %s, %d left\n", c.Param("tenant"), res.Remaining)
	})
	limited.GET("/fail", func(c *gin.Context) { c.String(http.StatusInternalServerError, "failed\n") })
	return r
}

// middleware returns net/http middleware as gin middleware.
func middleware(limit func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passed = true
			c.Request = r // for httplimit.FromContext
			c.Next()
			// Gin's handlers write to c.Writer: pass the status on to w,
			// which may record it.
			w.WriteHeader(c.Writer.Status())
		})
		r := c.Request.WithContext(context.WithValue(c.Request.Context(), contextKey{}, c))
		limit(next).ServeHTTP(c.Writer, r)
		if !passed {
			c.Abort()
		}
	}
}

type contextKey struct{}

// ginContext returns gin's context of a request that has passed the middleware.
func ginContext(r *http.Request) *gin.Context { return r.Context().Value(contextKey{}).(*gin.Context) }
